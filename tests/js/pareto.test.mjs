import test from 'node:test'
import assert from 'node:assert/strict'
import front, { corners, nextPoint, paddedRange } from '../../spd_nb/static/pareto.js'

test('a front turns so that it stays on the side that was attained', () => {
  assert.deepEqual(corners([1, 2, 4], [3, 5, 9], false), { x: [1, 2, 2, 4, 4], y: [3, 3, 5, 5, 9] })
  assert.deepEqual(corners([1, 2, 4], [9, 5, 3], true), { x: [1, 1, 2, 2, 4], y: [9, 5, 5, 3, 3] })
  assert.deepEqual(corners([1], [3], false), { x: [1], y: [3] })
  assert.deepEqual(corners([], [], true), { x: [], y: [] })
})

test('axes end a little beyond the points', () => {
  assert.deepEqual(paddedRange([0, 100, 50], false), [-4, 104])
  const [lo, hi] = paddedRange([.01, 1], true)
  assert.ok(lo > .008 && lo < .01 && hi > 1 && hi < 1.3)
})

test('arrows go to the next point along their axis, and stop at the ends', () => {
  const points = [[2, 0], [1, 5], [3, 1]]
  assert.equal(nextPoint(points, 0, 'ArrowRight'), 2)
  assert.equal(nextPoint(points, 0, 'ArrowLeft'), 1)
  assert.equal(nextPoint(points, 2, 'ArrowUp'), 1)
  assert.equal(nextPoint(points, 2, 'ArrowDown'), 0)
  assert.equal(nextPoint(points, 1, 'ArrowUp'), 1)
  assert.equal(nextPoint(points, 2, 'ArrowRight'), 2)
})

test('points that lie on each other are all reached', () => {
  const points = [[1, 1], [1, 1], [1, 1]]
  assert.deepEqual([0, 1, 2].map(i => nextPoint(points, i, 'ArrowRight')), [1, 2, 2])
})

test('a page answers from itself', () => {
  const state = {}, model = { set: (k, v) => { state[k] = v } }
  front.answer(model, 'pick', { row: 4 })
  assert.equal(state.row, 4)
  front.answer(model, 'clear', {})
  assert.equal(state.row, null)
})
