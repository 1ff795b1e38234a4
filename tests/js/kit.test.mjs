import test from 'node:test'
import assert from 'node:assert/strict'
import { ticks, scale, extent, formatNumber, percent, latestOnly, debounce, shade, mountView, onKernelEnd, nameParts, shortenName } from '../../spd_nb/static/kit.js'

const wait = ms => new Promise(done => setTimeout(done, ms))

test('ticks are round, inside and about as many as asked for', () => {
  assert.deepEqual(ticks(0, 1), [0, .2, .4, .6, .8, 1])
  assert.deepEqual(ticks(-3, 3, 3), [-2, 0, 2])
  assert.deepEqual(ticks(12, 18, 3), [12, 14, 16, 18])
  assert.deepEqual(ticks(.012, .019, 4), [.012, .014, .016, .018])
  for (const [lo, hi] of [[0, 7], [-1e-9, 3e-9], [12345, 12399], [.1, .30000000000000004]]) {
    const t = ticks(lo, hi)
    assert.ok(t.length >= 2 && t.length <= 7, `${t}`)
    assert.ok(t.every(v => v >= lo - (hi - lo) * 1e-6 && v <= hi + (hi - lo) * 1e-6), `${t}`)
  }
  assert.deepEqual(ticks(4, 4), [4])
})

test('log ticks are powers of ten, with 2 and 5 where there are few', () => {
  assert.deepEqual(ticks(1, 1000, 5, true).map(t => +t.toPrecision(6)), [1, 10, 100, 1000])
  assert.deepEqual(ticks(1, 10, 5, true).map(t => +t.toPrecision(6)), [1, 2, 5, 10])
  const many = ticks(1e-12, 1, 4, true)
  assert.ok(many.length <= 5 && many.every(t => Math.abs(Math.log10(t) % 1) < 1e-9))
})

test('a scale maps ends to ends, also upwards and in logs', () => {
  const s = scale(0, 10, 100, 0)
  assert.deepEqual([s(0), s(5), s(10)], [100, 50, 0])
  const l = scale(.01, 100, 0, 8, true)
  assert.ok(Math.abs(l(1) - 4) < 1e-9)
  assert.equal(scale(3, 3, 0, 10)(3), 5)
})

test('an extent leaves out what cannot be drawn and is never empty', () => {
  assert.deepEqual(extent([3, null, NaN, -1, Infinity]), [-1, 3])
  assert.deepEqual(extent([3, 0, -1, .5], true), [.5, 3])
  assert.deepEqual(extent([]), [0, 1])
  assert.deepEqual(extent([], true), [.1, 1])
  for (const [v, log] of [[0, false], [-4, false], [4, true]]) {
    const [lo, hi] = extent([v], log)
    assert.ok(lo < v && v < hi)
  }
})

test('numbers in three digits', () => {
  assert.deepEqual([0, 1, 12.345, .012345, 1234.5, 1.5e7, 1.5e-7, -2.71828, null, undefined, NaN].map(formatNumber), ['0', '1', '12.3', '0.0123', '1235', '1.5e+7', '1.5e-7', '-2.72', '–', '–', '–'])
  assert.deepEqual([0, .0001, .0123, .256, 1, null].map(percent), ['0 %', '< 0.1 %', '1.2 %', '26 %', '100 %', '–'])
})

test('shades stay between none and full', () => {
  assert.equal(shade(-1), shade(0))
  assert.equal(shade(null), shade(0))
  assert.equal(shade(2), shade(1))
})

test('latest runs one at a time and skips to the newest, also after a failure', async () => {
  const seen = []
  let fail = false, open
  const go = latestOnly(async v => { seen.push(v); await new Promise(done => { open = done }); if (fail) throw new Error('no') })
  go(1); go(2); go(3)
  assert.deepEqual(seen, [1])
  fail = true
  open(); await wait(0)
  assert.deepEqual(seen, [1, 3])
  open(); await wait(0)
  go(4)
  assert.deepEqual(seen, [1, 3, 4])
  open()
})

test('settled waits until nothing has happened for a while', async () => {
  const seen = [], go = debounce((...args) => seen.push(args), 20)
  go(1); go(2, 'b')
  assert.deepEqual(seen, [])
  await wait(60)
  assert.deepEqual(seen, [[2, 'b']])
})

test('a name is cut inside, and never in the number at its end', () => {
  const key = 'model.layers.11.mlp.down_proj:798'
  assert.deepEqual(nameParts(key), ['model.layers.', '11.mlp.down_proj', ':798'])
  for (const [text, parts] of [['linear1:3', ['', 'linear1', ':3']], ['feature 12', ['', 'feature ', '12']], ['a.b.c', ['a.b.', 'c', '']], ['h.0.attn', ['h.', '0.attn', '']], ['', ['', '', '']], ['x\ny:4', ['', 'x\ny', ':4']], [' said', ['', ' said', '']]]) assert.deepEqual(nameParts(text), parts)
  assert.deepEqual([40, 33, 28, 22, 21, 20, 10, 5].map(n => shortenName(key, n)), [key, key, 'model.l…11.mlp.down_proj:798', 'm…11.mlp.down_proj:798', '…11.mlp.down_proj:798', '11.mlp.down_pro…:798', '11.ml…:798', '…:798'])
  for (let n = 5; n < 40; n++) assert.ok(shortenName(key, n).endsWith(':798') && shortenName(key, n).length <= n)
  assert.equal(shortenName('how much of it', 8), 'how muc…')
})

// As much of a page as the frame of a view needs
class Element {
  constructor() { this.classList = { toggle() {}, add() {}, remove() {} } }
  setAttribute() {} append() {} replaceChildren() {} addEventListener() {}
}

test('what an answer changed is set to the same again, for notebooks that follow front ends only', async () => {
  globalThis.document = { createElement: () => new Element() }
  const state = { key: 'a', n: 1 }, hears = [], sent = [], updates = [], dirty = new Set()
  const model = { // as marimo's: what is set is sent, also where it is the same
    get: k => state[k], set(k, v) { state[k] = v; dirty.add(k) }, save_changes() { updates.push(Object.fromEntries([...dirty].map(k => [k, state[k]]))); dirty.clear() },
    on: (_, f) => hears.push(f), off() {}, send: q => sent.push(q),
  }
  const { ask, close } = mountView(new Element(), model, 'test')
  const answered = (more, then) => { then?.(); hears.forEach(f => f({ id: sent.at(-1).id, answer: 3, ...more })) }
  let reply = ask('pick', { key: 'b' })
  answered({ changed: ['key'] }, () => { state.key = 'b' }) // Python's update comes before its answer
  assert.deepEqual(updates, [{ key: 'b' }])
  assert.equal(await reply, 3)
  reply = ask('detail', { key: 'b' })
  answered({})
  await reply
  hears.forEach(f => f({ id: 'another', answer: 1, changed: ['n'] })) // of another display
  assert.equal(updates.length, 1)
  close()
})

test('a view that Python has closed says so, and asks no more', async () => {
  globalThis.document = { createElement: () => new Element() }
  const state = { _closed: false }, hears = new Map(), sent = []
  const model = { get: k => state[k], on: (name, f) => hears.set(name, f), off() {}, send: q => sent.push(q) }
  const { ask, close } = mountView(new Element(), model, 'test')
  const waiting = ask('detail', { key: 'b' })
  state._closed = true
  hears.get('change:_closed')()
  await assert.rejects(waiting, /is closed/) // its answer will not come
  await assert.rejects(ask('detail', { key: 'c' }), /is closed/)
  assert.equal(sent.length, 1)
  close()
})

test('a kernel that has ended is noticed, in front ends that say so', () => {
  const signal = () => ({ slots: [], connect(f) { this.slots.push(f) }, disconnect(f) { this.slots = this.slots.filter(g => g !== f) }, emit(v) { this.slots.forEach(f => f(null, v)) } })
  const sessionContext = { kernelChanged: signal(), statusChanged: signal() }
  let ends = 0
  const unwatch = onKernelEnd({ widget_manager: { context: { sessionContext } } }, () => { ends++ })
  for (const s of ['busy', 'idle', 'unknown']) sessionContext.statusChanged.emit(s)
  assert.equal(ends, 0)
  sessionContext.statusChanged.emit('dead')
  sessionContext.kernelChanged.emit({ newValue: null })
  assert.equal(ends, 2)
  unwatch()
  sessionContext.statusChanged.emit('dead')
  assert.equal(ends, 2)
  onKernelEnd({}, () => { ends++ })()
})
