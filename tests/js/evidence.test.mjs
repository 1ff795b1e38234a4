import test from 'node:test'
import assert from 'node:assert/strict'
import browser, { filterRows, pagesBetween } from '../../spd_nb/static/browser.js'
import { tokenShades } from '../../spd_nb/static/detail.js'
import lens, { strips } from '../../spd_nb/static/lens.js'
import studio, { withChange, sameEdit, withInterval } from '../../spd_nb/static/studio.js'

const table = {
  key: ['a.b:0', 'a.b:1', 'a.c:0', 'a.c:1'], firings: [50, 0, 90, 80], density: [.2, 0, .7, .1], mean_ci: [.1, 0, .5, .3],
  input_label: ['x', '', 'Quote', ''], output_label: ['', '', '', 'says x'],
  input: [[[' he', .5, 2], ['he', .25, 3]], [], [['he', .3, 1]], [['she', .02, 3]]], output: [[['"', .9, Math.log(90)]], [], [['"', .8, Math.log(80)]], [['"', .1, Math.log(10)]]],
}
const keys = q => filterRows(table, q).rows.map(i => table.key[i])

test('the table is filtered and sorted', () => {
  assert.deepEqual(keys({}), ['a.c:0', 'a.b:0', 'a.c:1'])
  assert.deepEqual(keys({ alive: false, sort: 'key', down: false }), table.key)
  assert.deepEqual(keys({ site: 'a.b' }), ['a.b:0'])
  assert.deepEqual(keys({ label: 'quote|SAYS' }), ['a.c:0', 'a.c:1'])
  assert.deepEqual(keys({ sort: 'mean_ci' }), ['a.c:0', 'a.c:1', 'a.b:0'])
  assert.throws(() => keys({ label: '(' }))
})

test('what other runs find sorts the table, and what was not compared comes last either way', () => {
  const known = { ...table, stability: [.2, null, .9, null] }, order = q => filterRows(known, { alive: false, sort: 'stability', ...q }).rows
  assert.deepEqual(order({ down: true }), [2, 0, 1, 3])
  assert.deepEqual(order({ down: false }), [0, 2, 1, 3])
  const model = { get: k => ({ table: known, details: {} })[k] }
  assert.deepEqual(browser.answer(model, 'rows', { start: 0, n: 2, sort: 'stability' }).rows.map(r => r.stability), [.9, .2])
})

test('a token finds those that list it often enough, the closest first, and none that fire nearly everywhere', () => {
  assert.deepEqual(keys({ token: '"', sort: 'pmi' }), ['a.b:0', 'a.c:1'])
  assert.deepEqual(keys({ token: ' he', side: 'input' }), ['a.b:0'])
  assert.deepEqual(keys({ token: 'she', side: 'input' }), [])
  assert.throws(() => keys({ token: ' she', side: 'input' }), /lists the token/)
  const { precision, pmi } = filterRows(table, { token: '"' }).hits.get(3)
  assert.equal(precision, .1)
  assert.ok(Math.abs(pmi - Math.log(10)) < 1e-9)
})

test('a text that stands for two tokens counts them together', () => {
  const both = filterRows({ ...table, input: [[[' he', .5, 2], ['he', .25, 3]], [], [], []] }, { token: 'he', side: 'input' }).hits.get(0)
  assert.equal(both.precision, .75)
  const one = { ...table, input: [[['  he', .5, 2], ['he ', .25, 3]], [], [], []] }
  assert.equal(filterRows(one, { token: 'he', side: 'input' }).hits.get(0).precision, .25)  // one space at most, as in Python
  assert.ok(Math.abs(both.pmi - Math.log(.75 / (.5 / Math.exp(2) + .25 / Math.exp(3)))) < 1e-9)
})

test('rows are asked for by the page that they are on', () => {
  assert.deepEqual([pagesBetween(0, 59), pagesBetween(59, 60), pagesBetween(130, 250)], [[0], [0, 1], [2, 3, 4]])
})

test('without Python the browser answers from its table, and says what it has not', () => {
  const state = { table, details: { 'a.b:0': { key: 'a.b:0', lens: null, neighbours: [], examples: [] } } }, model = { get: k => state[k], set(k, v) { state[k] = v } }
  const a = browser.answer(model, 'rows', { start: 1, n: 1 })
  assert.equal(a.total, 3)
  assert.deepEqual(a.rows.map(r => [r.key, r.output, r.firings]), [['a.b:0', ['"'], 50]])
  browser.answer(model, 'pick', { key: 'a.b:0' })
  assert.equal(state.key, 'a.b:0')
  assert.throws(() => browser.answer(model, 'detail', { key: 'a.c:0' }), /not in this file/)
  assert.throws(() => browser.answer(model, 'detail', { key: 'constructor' }), /not in this file/)
})

test('examples are shaded where a component fires, or one later, on what it says', () => {
  const e = { t: ['a', 'b', 'c'], ci: [0, 1, .5], act: [.1, -2, 1], at: 1 }
  assert.deepEqual(tokenShades(e), { values: [0, 1, .5], at: 1 })
  assert.deepEqual(tokenShades(e, { shift: 1 }), { values: [0, 0, 1], at: 2 })
  assert.deepEqual(tokenShades(e, { by: 'act' }), { values: [.05, 1, .5], at: 1 })
})

test('what is active at a token is told apart by site', () => {
  const reading = { sites: [{ site: 'a', C: 4 }, { site: 'b', C: 2 }], active: [[], [[1, 0, .5, 'x'], [0, 3, 1, '']]] }
  assert.deepEqual(strips(reading, 1), [{ site: 'a', C: 4, cells: [{ key: 'a:3', c: 3, ci: 1, label: '' }] }, { site: 'b', C: 2, cells: [{ key: 'b:0', c: 0, ci: .5, label: 'x' }] }])
  assert.throws(() => lens.answer({ get: () => ({}) }, 'read', { text: 'constructor' }), /needs Python/)
})

test('one change is made and the others stay', () => {
  const all = [{ key: 'a', factor: 1 }, { key: 'b', factor: 2 }]
  assert.deepEqual(withChange(all, 1, { factor: 0 }), [{ key: 'a', factor: 1 }, { key: 'b', factor: 0 }])
  assert.equal(all[1].factor, 2)
  assert.equal(withInterval({ value: .5, low: .25, high: 1 }), '0.5  (0.25 to 1)')
  assert.equal(withInterval({ value: 3, low: null, high: null }), '3')
})

test('a page of a studio answers for its own edit only', () => {
  const change = { key: 'a:0', factor: 0, token: '', strength: 1 }, state = { prompt: 'Tom', gate: false, changes: [change], kept: { tokens: ['a', 'b'], unknown: [[1, 'x']], kl: [0, 1], next: [['x'], ['y']], doses: [['early', 'curve']], code: 'edit' } }
  const model = { get: k => state[k] }, args = { prompt: 'Tom', gate: false, changes: [{ strength: 1, token: '', factor: 0, key: 'a:0' }], at: null }
  assert.equal(sameEdit(args, state), true)
  assert.deepEqual(studio.answer(model, 'preview', args), { at: 1, tokens: ['a', 'b'], unknown: [[1, 'x']], kl: [0, 1], next: ['y'] })
  assert.deepEqual(studio.answer(model, 'preview', { ...args, at: 0 }).next, ['x'])
  assert.equal(studio.answer(model, 'dose', { ...args, which: 0 }), 'curve')
  assert.equal(studio.answer(model, 'dose', { ...args, at: 0, which: 0 }), 'early')
  for (const other of [{ prompt: 'Tim' }, { gate: true }, { changes: [] }, { changes: [{ ...change, factor: 1 }] }]) assert.throws(() => studio.answer(model, 'preview', { ...args, ...other }), /needs Python/)
  assert.equal(studio.answer(model, 'code'), 'edit')
  assert.throws(() => studio.answer(model, 'measure', args), /needs Python/)
})
