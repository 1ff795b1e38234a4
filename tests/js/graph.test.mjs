import test from 'node:test'
import assert from 'node:assert/strict'
import { boxEdges, boxes, fewest, layout, neighbour, normalised, placed, prune } from '../../spd_nb/static/graph_math.js'
import front from '../../spd_nb/static/graph_view.js'

// Two tokens feed three components, and these two logits: the small graph of the page on graphs
const g = {
  tokens: ['A', ' b'], sites: ['/token', 'a', 'b', '/logit'],
  nodes: {
    name: ['/token:4@0', '/token:7@1', 'a:3@0', 'a:1@1', 'b:0@1', '/logit:8@1', '/logit:9@1'], site: [0, 0, 1, 1, 2, 3, 3], position: [0, 1, 0, 1, 1, 1, 1],
    kind: [0, 0, 1, 1, 1, 2, 2], text: ['A', ' b', '', '', 'says b', 'x', 'y'], weight: [0, 0, 0, 0, 0, .75, .25], lost: [0, 0, 0, 0, 1, 0, 0], influence: [.325, .1, .1625, .5125, .8125, .75, .25],
  },
  edges: { s: [0, 1, 2, 3, 0, 4, 3, 4], t: [2, 3, 4, 4, 4, 5, 5, 6], w: [-2, 4, 1, 2, -1, 3, 1, -2] },
}
const row = new Map(g.nodes.name.map((n, i) => [n, i]))

test('pruning keeps what `Graph.pruned` keeps', () => {
  const kept = prune(g, .7, .9)
  assert.deepEqual(g.nodes.name.filter((_, i) => kept.nodes[i]), ['/token:4@0', '/token:7@1', 'a:1@1', 'b:0@1', '/logit:8@1', '/logit:9@1'])
  const all = prune(g, 1, 1)
  assert.ok(all.nodes.every(Boolean) && all.edges.every(Boolean))
  assert.equal(prune(g, 0, 1).nodes.filter(Boolean).length, 4 + 1) // the tokens, the logits, and the one most influential component
  assert.deepEqual(fewest([0, 0], .5), [false, false])
})

test('edges relative to what a node or a site receives', () => {
  assert.equal(normalised(g, 'size'), g.edges.w)
  const square = (w, of) => [...w.keys()].filter(of).reduce((a, e) => a + w[e] ** 2, 0)
  assert.ok(Math.abs(square(normalised(g, 'node'), e => g.edges.t[e] === 4) - 1) < 1e-12)
  assert.ok(Math.abs(square(normalised(g, 'site'), e => g.nodes.site[g.edges.t[e]] === 3) - 1) < 1e-12)
})

test('later positions stand to the right, later sites above, and nothing overlaps', () => {
  const at = layout(g, { width: 400 })
  assert.ok(at.width >= 400 - 1e-9 && at.y[4] < at.y[3] && at.y[3] < at.y[1] && at.x[2] < at.x[3])
  assert.equal(at.x[5], at.x[6]) // outputs stand above each other
  for (let i = 0; i < 7; i++) for (let j = 0; j < i; j++) assert.ok(Math.abs(at.x[i] - at.x[j]) >= (at.w[i] + at.w[j]) / 2 || Math.abs(at.y[i] - at.y[j]) >= (at.h[i] + at.h[j]) / 2, `${i} ${j}`)
})

test('arrows go to the next node that is shown, and stop at the ends', () => {
  const at = layout(g, { width: 400 }), all = g.nodes.name.map(() => true), without = all.map((_, i) => i !== 3)
  assert.equal(neighbour(g, at, all, 2, 'ArrowRight'), 3)
  assert.equal(neighbour(g, at, all, 2, 'ArrowLeft'), 2)
  assert.equal(neighbour(g, at, all, 3, 'ArrowUp'), 4)
  assert.equal(neighbour(g, at, without, 4, 'ArrowDown'), 2)
  assert.equal(neighbour(g, at, all, 1, 'ArrowDown'), 1)
})

test('groups are boxes whose edges are summed, and what is pinned later moves no box of its row', () => {
  const all = boxes(['a:3@0', 'a:1@1', 'b:0@1'], { both: ['a:3@0', 'a:1@1'] }, row)
  assert.deepEqual(all.map(b => b.name), ['both', 'b:0@1'])
  assert.deepEqual(boxEdges(g, all, g.edges.w), [[0, 1, 3]])
  const one = boxes(['a:3@0'], {}, row), two = boxes(['a:3@0', 'a:1@1'], {}, row)
  assert.deepEqual(placed(g, two, {}).at[0], placed(g, one, {}).at[0])
  assert.notDeepEqual(placed(g, two, {}, { columns: 1 }).at[0], placed(g, two, {}, { columns: 1 }).at[1])
  assert.deepEqual(placed(g, two, { 'a:1@1': [.3, 200] }).at[1], [.3, 200])
  assert.ok(placed(g, two, { 'a:1@1': [.3, 200] }).height > 200)
})

test('a page answers what it holds, and says so of the rest', () => {
  const state = { details: { 'b:0': { key: 'b:0', lens: null } }, said: [{ nodes: ['b:0@1'], how: 'only', answer: { kl: 1 } }] }
  const model = { get: k => state[k], set: (k, v) => { state[k] = v } }
  front.answer(model, 'pick_node', { node: 'b:0@1' })
  assert.deepEqual([state.node, state.key], ['b:0@1', 'b:0'])
  front.answer(model, 'pick_node', { node: '/logit:8@1' })
  assert.equal(state.key, '')
  front.answer(model, 'arrange', { pinned: ['b:0@1'], groups: {} })
  assert.deepEqual(state.pinned, ['b:0@1'])
  assert.deepEqual(front.answer(model, 'says', { nodes: ['b:0@1'], how: 'only' }), { kl: 1 })
  assert.equal(front.answer(model, 'says', { nodes: ['b:0@1'], how: 'without' }), undefined)
  assert.throws(() => front.answer(model, 'detail', { key: 'constructor' }), /not in this file/)
})
