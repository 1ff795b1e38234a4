import test from 'node:test'
import assert from 'node:assert/strict'
import front, { numbers, ramp, blocks, labelStep, cellSizes } from '../../spd_nb/static/heat.js'

test('numbers come back as they were, holes too', () => {
  const text = Buffer.from(new Float32Array([1, -2.5, NaN]).buffer).toString('base64')
  assert.deepEqual([...numbers(text)], [1, -2.5, NaN])
})

test('a ramp ends in the colours it was given', () => {
  const table = ramp(['#000000', '#ff8000', '#ffffff'])
  assert.deepEqual([...table.slice(0, 3)], [0, 0, 0])
  assert.deepEqual([...table.slice(-3)], [255, 255, 255])
  assert.equal(table[3 * 64], Math.round(255 * 64 / 127.5))
  assert.equal(table.length, 768)
})

test('with a pixel per cell every cell shows itself', () => {
  assert.deepEqual([...blocks([1, 2, 3, NaN, 5, 6], 2, 3, 2, 3, 0)], [0, 1, 2, 3, 4, 5])
})

test('with fewer pixels the cell farthest from pale is shown, never a hole beside a number', () => {
  assert.deepEqual([...blocks([1, 2, -3, NaN, 5, 6], 2, 3, 1, 1, 0)], [5])
  assert.deepEqual([...blocks([1, 2, -9, NaN, 5, 6], 2, 3, 1, 1, 0)], [2])
  assert.deepEqual([...blocks([NaN, .1, 0, 0], 2, 2, 1, 2, 0)], [2, 1])
  assert.deepEqual([...blocks([0, 0, 0, 0, 0, .9], 1, 6, 1, 2, 0)], [0, 5])
})

test('labels are thinned to 1, 2, 5, 10, ...', () => {
  assert.deepEqual([labelStep(20, 20), labelStep(20, 21), labelStep(5, 20), labelStep(.1, 13)], [1, 2, 5, 200])
})

test('cells grow by twos until they can be read, and start small enough for all to be seen', () => {
  assert.deepEqual(cellSizes(5, 5, 400), [[44, 28]])
  const all = cellSizes(500, 2000, 800)
  assert.ok(all[0][0] * 2000 <= 800 && all[0][1] * 500 <= 380)
  assert.ok(all.at(-1)[0] >= 12 && all.at(-1)[1] >= 12 && all.at(-2)[0] < 12)
})

test('a page answers from itself', () => {
  const state = {}, model = { set: (k, v) => { state[k] = v } }
  front.answer(model, 'pick', { row: 1, column: 2 })
  assert.deepEqual(state.cell, [1, 2])
  front.answer(model, 'clear', {})
  assert.equal(state.cell, null)
})
