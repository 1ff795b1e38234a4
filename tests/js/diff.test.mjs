import test from 'node:test'
import assert from 'node:assert/strict'
import front, { afterKey, remaining } from '../../spd_nb/static/diff.js'

test('arrows move within a prompt and between prompts, and stop at the ends', () => {
  const lengths = [5, 2, 7], from = { prompt: 0, position: 3 }
  assert.deepEqual(afterKey(from, 'ArrowRight', lengths), { prompt: 0, position: 4 })
  assert.deepEqual(afterKey({ prompt: 0, position: 4 }, 'ArrowRight', lengths), { prompt: 0, position: 4 })
  assert.deepEqual(afterKey({ prompt: 1, position: 0 }, 'ArrowLeft', lengths), { prompt: 1, position: 0 })
  assert.deepEqual(afterKey(from, 'ArrowDown', lengths), { prompt: 1, position: 1 })
  assert.deepEqual(afterKey(from, 'ArrowUp', lengths), from)
  assert.deepEqual(afterKey({ prompt: 2, position: 3 }, 'End', lengths), { prompt: 2, position: 6 })
  assert.deepEqual(afterKey({ prompt: 2, position: 3 }, 'Home', lengths), { prompt: 2, position: 0 })
})

test('what is not listed is left for all others', () => {
  assert.deepEqual(remaining([['a', .5, .25], ['b', .25, .125]]), [.25, .625])
  assert.deepEqual(remaining([['a', 1.00001, 1]]), [0, 0])
})

test('a page answers from itself', () => {
  const state = {}, model = { set: (k, v) => { state[k] = v } }
  front.answer(model, 'pick', { prompt: 1, position: 2 })
  assert.deepEqual(state, { prompt: 1, position: 2 })
})
