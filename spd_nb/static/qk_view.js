import { h, bars, chart, formatNumber, latestOnly, mountView, nameElement, shade, token } from './kit.js'
import { pickedDetail } from './detail.js'

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b)

// Pairs switched off, with one of them switched
export const toggled = (off, pair) => off.some(p => same(p, pair)) ? off.filter(p => !same(p, pair)) : [...off, pair]

// The position that a key leads to in a text of `n` tokens
export function moved(position, key, n) {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[key]
  return step === undefined ? null : Math.min(n - 1, Math.max(0, position + step))
}

function answer(model, what, args) {
  if (what === 'read') {
    const now = model.get('reading')
    if (!['layer', 'head', 'position', 'off'].every(k => same(args[k], now.asked[k]))) throw new Error('This file holds one head at one position; others need Python.')
    return now
  }
  if (what === 'pick_pair') {
    const found = model.get('strengths').find(s => same(s.pair, args.pair))
    if (!found) throw new Error('This file holds the strongest pairs; another needs Python.')
    return found
  }
  const details = model.get('details') || {}
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (what === 'pick') return model.set('key', args.key)
  if (what === 'examples') return []
  return what === 'detail' ? structuredClone(details[args.key]) : details[args.key][what]
}

// The attention from each position (rows) to each, as a canvas; the row of the chosen position is framed
function pattern(values, position, label, onpick) {
  const n = values.length, cell = Math.max(3, Math.min(16, Math.floor(300 / n))), d = devicePixelRatio || 1
  const canvas = h('canvas', { class: 'spd-pattern', width: n * cell * d, height: n * cell * d, style: `width: ${n * cell}px; height: ${n * cell}px`, role: 'img', 'aria-label': label, onclick: e => onpick(Math.min(n - 1, Math.max(0, Math.floor(e.offsetY / cell)))) })
  const c = canvas.getContext('2d')
  c.scale(d, d)
  values.forEach((row, t) => row.forEach((v, s) => { if (s > t && v === 0) return; c.fillStyle = v > .002 ? shade(.08 + v) : 'rgba(127, 127, 127, .07)'; c.fillRect(s * cell, t * cell, cell - 1, cell - 1) }))
  c.strokeStyle = '#8461c2'
  c.lineWidth = 1.5
  c.strokeRect(.75, position * cell - .25, n * cell - 1.5, cell + .5)
  return canvas
}

function render({ model, el }) {
  const { body, note, ask, forget, close } = mountView(el, model, 'qk')
  const still = Boolean(model.get('reading')), kept = model.get('details')
  let reading = null
  const state = () => ({ layer: model.get('layer'), head: model.get('head'), position: model.get('position'), off: model.get('off') })
  const heads = h('div', { class: 'spd-row spd-heads', role: 'group', 'aria-label': 'heads' }), line = h('div', { class: 'spd-text spd-prompt-tokens', role: 'listbox', 'aria-label': 'query position', onkeydown: key })
  const patterns = h('div', { class: 'spd-patterns' }), rows = h('div', { class: 'spd-pairs' }), effect = h('div'), curve = h('div')
  const pane = pickedDetail(model, ask, k => show(k))
  body.append(heads, line, note, h('div', { class: 'spd-result spd-qk-panes' }, h('div', {}, h('h3', {}, 'attention: queries downwards, keys to the right'), patterns, h('h3', {}, 'where this position looks'), effect), h('div', {}, h('h3', {}, 'pairs that make up the scores of this position'), rows, curve)), pane.el)

  const read = latestOnly(async () => { reading = await ask('read', state()); draw() })
  function change(more) { ask('read', { ...state(), ...more }).then(a => { reading = a; draw() }).catch(() => {}) }
  function draw() {
    const { tokens, asked } = reading
    heads.replaceChildren(...reading.heads.map(o => h('button', { 'aria-pressed': String(o.layer === asked.layer && o.head === asked.head), disabled: still && !(o.layer === asked.layer && o.head === asked.head), title: `previous token ${formatNumber(o.previous)}, induction ${formatNumber(o.induction)}, first token ${formatNumber(o.first)}`, onclick: () => change({ layer: o.layer, head: o.head, off: [] }) }, `${o.layer}.${o.head}`, o.previous > .5 ? ' previous' : o.induction > .5 ? ' induction' : '')))
    line.replaceChildren(...tokens.map((t, i) => h('button', { class: 'spd-tok', role: 'option', 'aria-selected': String(i === asked.position), tabindex: i === asked.position ? 0 : -1, disabled: still && i !== asked.position, onclick: () => change({ position: i }), style: `background: ${shade(reading.after[asked.position][i])}`, title: `attention ${formatNumber(reading.after[asked.position][i])}` }, h('span', {}, t === '' ? '∅' : t))))
    const off = asked.off.length, pick = t => { if (!still) change({ position: t }) }
    patterns.replaceChildren(h('figure', {}, pattern(reading.before, asked.position, 'attention of the model', pick), h('figcaption', {}, 'the model')), off ? h('figure', {}, pattern(reading.after, asked.position, 'attention without the pairs that are off', pick), h('figcaption', {}, `${off} ${off === 1 ? 'pair' : 'pairs'} off`)) : '')
    const p = asked.position, order = tokens.map((_, s) => s).filter(s => s <= p || reading.before[p][s] > 0).sort((a, b) => Math.max(reading.before[p][b], reading.after[p][b]) - Math.max(reading.before[p][a], reading.after[p][a])).slice(0, 6)
    effect.replaceChildren(bars(order.map(s => [h('span', {}, token(tokens[s]), ` ${s}`), reading.before[p][s], ...(off ? [reading.after[p][s]] : [])])))
    const most = Math.max(1e-30, ...reading.pairs.map(r => Math.abs(r.contribution)))
    const name = k => k.startsWith('/') ? h('span', { class: 'spd-faint' }, k.slice(1)) : h('button', { class: 'spd-pair-name', title: k, disabled: Boolean(kept && !Object.hasOwn(kept, k)) || !model.get('evidence'), onclick: () => show(k) }, nameElement(short(k), { title: null }))
    rows.replaceChildren(h('div', { class: 'spd-pair-head' }, ['on', 'looks for', 'finds', 'at', 'adds'].map(t => h('span', { class: 'spd-faint' }, t))), ...reading.pairs.map(r => {
      const pair = [r.query, r.key], on = !asked.off.some(o => same(o, pair))
      return h('div', { class: `spd-pair${same(pair, model.get('pair')) ? ' spd-picked-pair' : ''}` },
        h('input', { type: 'checkbox', checked: on, disabled: still, 'aria-label': `${r.query} with ${r.key}`, onchange: () => change({ off: toggled(asked.off, pair) }) }), name(r.query), name(r.key), h('span', {}, token(r.token), ` ${r.at}`),
        h('button', { class: 'spd-pair-value', title: 'strength of this pair by distance, in each head', onclick: () => strengths(pair) }, h('i', { style: `width: ${(100 * Math.abs(r.contribution) / most).toFixed(0)}%; background: ${r.contribution < 0 ? 'rgba(224, 123, 26, .35)' : 'rgba(59, 127, 196, .35)'}` }), h('span', { class: 'spd-num' }, formatNumber(r.contribution))))
    }), h('p', { class: 'spd-faint' }, `All pairs, with the delta and the bias, add up to the scores. Switched off, a pair is gone at all positions${off ? '' : '.'}`, off && !still ? [', ', h('button', { class: 'spd-all-on', onclick: () => change({ off: [] }) }, 'switch all on')] : ''))
  }
  const short = k => k.split('.').slice(-2).join('.')
  async function strengths(pair) {
    try {
      const s = await ask('pick_pair', { pair })
      if (!s.offsets) { curve.replaceChildren(h('p', { class: 'spd-faint' }, s.why)); return }
      curve.replaceChildren(h('h3', {}, 'strength by distance, from the weights'), chart({ series: s.heads.map((y, i) => ({ name: `head ${i}`, x: s.offsets, y })), x: { title: `distance of ${short(pair[1])} back from ${short(pair[0])}` }, y: { title: 'strength' }, label: 'strength by distance in each head' }))
      if (reading) draw()
    } catch { /* shown by `ask` */ }
  }
  function show(k) { ask('pick', { key: k }).catch(() => {}) }
  function key(e) {
    const to = reading && !still ? moved(reading.asked.position, e.key === 'ArrowRight' ? 'ArrowDown' : e.key === 'ArrowLeft' ? 'ArrowUp' : e.key, reading.tokens.length) : null
    if (to === null) return
    e.preventDefault()
    ask('read', { ...state(), position: to }).then(a => { reading = a; draw(); line.children[to].focus() }).catch(() => {})
  }
  const pushed = () => { if (!reading || !same(state(), reading.asked)) read() }
  for (const k of ['layer', 'head', 'position', 'off', 'prompt']) model.on(`change:${k}`, k === 'prompt' ? read : pushed)
  model.on('change:key', pane.show)
  read()
  pane.show()
  return () => { close(); model.off('change:key', pane.show); for (const k of ['layer', 'head', 'position', 'off', 'prompt']) model.off(`change:${k}`, k === 'prompt' ? read : pushed) }
}

export default { render, answer }
