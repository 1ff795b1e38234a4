import test from 'node:test'
import assert from 'node:assert/strict'
import { formatDuration, headline, barHeight, sparkPath, withoutPrefix } from '../../spd_nb/static/monitor.js'

test('times as people say them', () => {
  assert.deepEqual([null, .2, 12.4, 59.6, 95, 640, 3599.9, 3700, 7190, 7260].map(formatDuration), ['', 'less than 1 s', '12 s', '1 min', '1 min 35 s', '10 min', '1 h', '1 h 2 min', '2 h', '2 h 1 min'])
})

test('the headline says where a run is and how it ended', () => {
  const d = { state: 'running', step: 1234, steps: 10000, rate: 12.34, left: 710 }
  const plain = d => headline(d).replace(/\s/g, ' ')
  assert.equal(plain(d), 'Training, step 1 234 of 10 000, 12.3 steps per second, 11 min left')
  assert.equal(plain({ ...d, rate: null, left: null }), 'Training, step 1 234 of 10 000')
  assert.equal(plain({ ...d, state: 'stopping' }), 'Stopping, at step 1 234 of 10 000, 12.3 steps per second')
  assert.equal(plain({ ...d, state: 'stopped' }), 'Stopped at step 1 234 of 10 000')
  assert.equal(plain({ ...d, state: 'failed' }), 'Failed at step 1 234 of 10 000')
  assert.equal(plain({ ...d, state: 'finished' }), 'Finished, 10 000 steps')
  for (const state of ['starting', 'stopping', 'finished', 'stopped', 'failed']) assert.ok(headline({ state }))
})

test('bars go with the logarithm of a share, and what is there is seen', () => {
  assert.equal(barHeight(0), 0)
  assert.equal(barHeight(1), 1)
  assert.ok(Math.abs(barHeight(.01) - .5) < 1e-9)
  assert.ok(barHeight(1e-9) > 0)
})

test('a small curve goes from edge to edge and starts at 0', () => {
  assert.equal(sparkPath([0, 2, 1], 100, 26), 'M0.0,25.0L50.0,1.0L100.0,13.0')
  assert.ok(!sparkPath([0, 0], 100, 26).includes('NaN'))
})

test('names lose what all of them begin with, but never all', () => {
  assert.deepEqual(withoutPrefix(['m.layers.0.q', 'm.layers.0.k', 'm.layers.1.q']), [['0.q', '0.k', '1.q'], 'm.layers'])
  assert.deepEqual(withoutPrefix(['linear1', 'linear2']), [['linear1', 'linear2'], ''])
  assert.deepEqual(withoutPrefix(['a.b']), [['a.b'], ''])
  assert.deepEqual(withoutPrefix(['a.b', 'a.b.c']), [['b', 'b.c'], 'a'])
  assert.deepEqual(withoutPrefix([]), [[], ''])
})
