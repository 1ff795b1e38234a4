import test from 'node:test'
import assert from 'node:assert/strict'
import front, { moved, toggled } from '../../spd_nb/static/qk_view.js'

test('a pair is switched off, and on again', () => {
  const one = toggled([], ['q:1', 'k:2'])
  assert.deepEqual(one, [['q:1', 'k:2']])
  assert.deepEqual(toggled(toggled(one, ['q:1', 'k:3']), ['q:1', 'k:2']), [['q:1', 'k:3']])
})

test('keys move through the text and stop at its ends', () => {
  assert.deepEqual([moved(3, 'ArrowDown', 5), moved(4, 'ArrowDown', 5), moved(0, 'ArrowUp', 5), moved(2, 'End', 5), moved(2, 'Home', 5), moved(2, 'x', 5)], [4, 4, 0, 4, 0, null])
})

test('a page answers what it holds, and says so of the rest', () => {
  const asked = { layer: 0, head: 1, position: 3, off: [] }, state = { reading: { asked, tokens: [] }, strengths: [{ pair: ['q:1', 'k:2'], offsets: [0] }], details: { 'q:1': { key: 'q:1' } } }
  const model = { get: k => state[k], set: (k, v) => { state[k] = v } }
  assert.equal(front.answer(model, 'read', asked), state.reading)
  assert.throws(() => front.answer(model, 'read', { ...asked, head: 2 }), /need Python/)
  assert.deepEqual(front.answer(model, 'pick_pair', { pair: ['q:1', 'k:2'] }).offsets, [0])
  assert.throws(() => front.answer(model, 'pick_pair', { pair: ['q:1', 'k:9'] }), /needs Python/)
  front.answer(model, 'pick', { key: 'q:1' })
  assert.equal(state.key, 'q:1')
  assert.throws(() => front.answer(model, 'detail', { key: '__proto__' }), /not in this file/)
})
