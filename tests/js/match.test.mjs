import test from 'node:test'
import assert from 'node:assert/strict'
import front, { bins, followed, keyOf, listed, moved, partnerOf, reaching, searched, similarity, withHeadings } from '../../spd_nb/static/match_view.js'

// Five components at two sites, of which one has no partner
const d = { sites: ['a', 'b.c'], site: [0, 0, 1, 1, 1], c: [0, 1, 0, 4, 7], partner: [1, 0, 7, -1, 2], similarity: [.6, .95, .95, null, -.1], mixed: [.3, .92, .1, null, .2], density: [.1, 0, .3, .2, .3], label: ['', 'says “Ida”', '', '', ''], partner_label: ['', '', 'fires on ":"', '', ''] }
const all = { sort: 'similarity', site: '', search: '' }, hay = searched(d)

test('keys of both sides', () => {
  assert.deepEqual([keyOf(d, 3), partnerOf(d, 3), partnerOf(d, 2)], ['b.c:4', '', 'b.c:7'])
})

test('the order of the list: ties in the order of the match, and those without a partner last', () => {
  assert.deepEqual(listed(d, hay, all), [1, 2, 0, 4, 3])
  assert.deepEqual(listed(d, hay, { ...all, sort: 'site' }), [1, 0, 2, 4, 3])
  assert.deepEqual(listed(d, hay, { ...all, sort: 'density' }), [2, 4, 3, 0, 1])
})

test('the list of a site, and of what is searched in either run', () => {
  assert.deepEqual(listed(d, hay, { ...all, site: 'b.c' }), [2, 4, 3])
  assert.deepEqual(listed(d, hay, { ...all, search: ' IDA' }), [1])
  assert.deepEqual(listed(d, hay, { ...all, search: 'b.c:7' }), [2, 4]) // the first by its partner
  assert.deepEqual(listed(d, hay, { ...all, search: 'fires on', site: 'a' }), [])
  assert.deepEqual(listed(d, hay, { ...all, site: 'gone' }), [])
})

test('headings stand above the first pair of each site', () => {
  assert.deepEqual(withHeadings(d, [1, 0, 2, 4]), [-1, 1, 0, -2, 2, 4])
  assert.deepEqual(withHeadings(d, []), [])
})

test('counts and bins leave out those without a partner', () => {
  assert.deepEqual([reaching(d.similarity, .95), reaching(d.similarity, .96), reaching(d.mixed, .9), reaching(d.similarity, 0)], [2, 0, 1, 3])
  assert.deepEqual(bins(d.similarity, 4), [1, 0, 1, 2]) // below 0 is in the first
  assert.deepEqual(bins([0, .1, .2, .3, 1, null], 10), [1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
})

test('a similarity is cut to two digits', () => {
  assert.deepEqual([.899, .9, .99999994, .996, 1, -.1, null].map(similarity), ['0.89', '0.90', '1.00', '0.99', '1.00', '−0.10', '–'])
})

test('keys move over headings and stop at both ends', () => {
  const rows = [-1, 1, 0, -2, 2, 4]
  assert.deepEqual(['ArrowDown', 'ArrowUp', 'End', 'Home', 'PageDown', 'PageUp', 'a'].map(k => moved(rows, 2, k)), [4, 1, 5, 1, 5, 1, -1])
  assert.deepEqual(['ArrowDown', 'ArrowUp', 'End'].map(k => moved(rows, -1, k)), [1, 1, 5]) // nothing is picked
  assert.equal(moved([], -1, 'ArrowDown'), -1)
  assert.equal(moved([-1], -1, 'End'), -1)
})

test('what is changed here waits for no answer, and what Python holds is taken over after it', async () => {
  const held = { least: .9, site: '' }, told = [], seen = []
  let release
  const f = followed({ get: k => held[k] }, ['least', 'site'], now => { told.push(now); return new Promise((yes, no) => { release = { yes, no } }) }, pushed => seen.push(pushed), 0)
  f.set({ least: .5 })
  assert.deepEqual([f.now.least, told, seen], [.5, [{ least: .5, site: '' }], [false]])
  f.set({ least: .4 })
  held.site = 'a'
  f.adopt() // an older state, while the answer is awaited
  assert.deepEqual(f.now, { least: .4, site: '' })
  held.least = .5
  release.yes()
  await new Promise(r => setTimeout(r, 5))
  assert.deepEqual([f.now.least, told.length], [.4, 2])
  release.no(new Error('refused'))
  await new Promise(r => setTimeout(r, 5))
  assert.deepEqual([f.now, seen], [{ least: .5, site: 'a' }, [false, false, true]])
  held.least = .1
  f.adopt()
  assert.equal(f.now.least, .1)
})

test('a page arranges its list, and says which evidence it lacks', () => {
  const state = { least: .9, details: { 'a:1': { key: 'a:1', lens: null } }, partner_details: { 'a:1': { key: 'a:1', lens: { reads: [] } } } }, model = { get: k => state[k], set: (k, v) => { state[k] = v } }
  front.answer(model, 'arrange', { least: .5, sort: 'site', site: 'a', search: 'x' })
  front.answer(model, 'pick', { key: 'a:1' })
  assert.deepEqual([state.least, state.sort, state.site, state.search, state.key], [.5, 'site', 'a', 'x', 'a:1'])
  assert.equal(front.answer(model, 'lens', { key: 'a:1' }), null)
  assert.deepEqual(front.answer(model, 'of_partner', { what: 'lens', key: 'a:1' }), { reads: [] })
  assert.deepEqual(front.answer(model, 'of_partner', { what: 'examples', key: 'a:1' }), [])
  for (const key of ['a:0', '__proto__']) for (const [what, args] of [['detail', { key }], ['of_partner', { what: 'detail', key }]]) assert.throws(() => front.answer(model, what, args), /not in this file/)
})
