import test from 'node:test'
import assert from 'node:assert/strict'
import front, { bent, bentTicks, bytes, groupOf, groupsAfter, members, part, pooled, stepped, tree, windowFrom } from '../../spd_nb/static/cluster_picker.js'

// The history of the page, by hand: 0 with 2, 1 with 3, then both pairs; 4 stays alone
const t = tree({ pairs: [[0, 2], [1, 3], [6, 5]], active: [5, 9, 7, 8, 40, 8, 20, 22], order: [4, 1, 3, 2, 0] })

test('groups after each merge, the most frequent first', () => {
  assert.deepEqual(groupsAfter(t, 0), [4, 1, 3, 2, 0])
  assert.deepEqual(groupsAfter(t, 1), [4, 1, 5, 3]) // a tie goes by the first component
  assert.deepEqual(groupsAfter(t, 2), [4, 6, 5])
  assert.deepEqual(groupsAfter(t, 3), [4, 7])
  assert.deepEqual([7, 6, 5, 4].map(g => Array.from(members(t, g))), [[0, 1, 2, 3], [1, 3], [0, 2], [4]])
  assert.deepEqual([t.start[7], t.size[7], t.first[7]], [1, 4, 0])
})

test('a component is followed from group to group', () => {
  assert.deepEqual([0, 1, 2, 3].map(s => groupOf(t, s, 3)), [3, 3, 6, 7])
  assert.equal(groupOf(t, 3, 4), 4)
})

test('a history without merges, and one component', () => {
  assert.deepEqual(groupsAfter(tree({ pairs: [], active: [1, 2], order: [1, 0] }), 0), [1, 0])
  assert.deepEqual(groupsAfter(tree({ pairs: [], active: [1], order: [0] }), 0), [0])
})

test('keys move the cut and stop at both ends', () => {
  assert.deepEqual(['ArrowRight', 'ArrowUp', 'ArrowLeft', 'ArrowDown'].map(k => stepped(5, k, 40)), [6, 6, 4, 4])
  assert.deepEqual([stepped(5, 'ArrowLeft', 40, true), stepped(35, 'ArrowRight', 40, true), stepped(5, 'PageUp', 40), stepped(500, 'PageDown', 1000), stepped(5, 'Home', 40), stepped(5, 'End', 40), stepped(5, 'a', 40)], [0, 40, 15, 450, 0, 40, null])
})

test('a map in fewer pixels loses no strong value', () => {
  const z = bytes(btoa(String.fromCharCode(9, 0, 1, 0, 0, 2, 0, 0, 0, 0, 255, 0, 0, 0, 0, 3)))
  assert.deepEqual(Array.from(pooled(z, 4, 2)), [9, 1, 0, 255])
  assert.equal(pooled(z, 4, 4), z)
  assert.deepEqual(Array.from(part(z, 4, 1, 2)), [2, 0, 0, 255])
  assert.equal(part(z, 4, 0, 4), z)
})

test('a window stays inside the map', () => {
  assert.deepEqual([windowFrom(50, 20, 100), windowFrom(3, 20, 100), windowFrom(99, 20, 100), windowFrom(7, 100, 100)], [40, 0, 80, 0])
})

test('costs on both sides of 0', () => {
  const f = bent(.1)
  assert.equal(f(0), 0)
  assert.ok(Math.abs(f(-3) + f(3)) < 1e-12 && f(10) < 3 * f(1))
  assert.deepEqual(bentTicks(-2, 150, .1).map(v => Number(v.toPrecision(3))), [-1, -.1, 0, .1, 1, 10, 100])
  assert.deepEqual(bentTicks(0, 0, 1e-9), [0])
})

test('a page is cut anywhere, and says which evidence it lacks', () => {
  const state = { step: 0, group: null, details: { 'a:1': { key: 'a:1', lens: null } } }, model = { get: k => state[k], set: (k, v) => { state[k] = v } }
  front.answer(model, 'cut', { step: 2, group: 1 })
  front.answer(model, 'pick', { key: 'a:1' })
  assert.deepEqual([state.step, state.group, state.key], [2, 1, 'a:1'])
  assert.equal(front.answer(model, 'detail', { key: 'a:1' }).key, 'a:1')
  assert.deepEqual(front.answer(model, 'examples', { key: 'a:1' }), [])
  assert.throws(() => front.answer(model, 'detail', { key: '__proto__' }), /not in this file/)
})
