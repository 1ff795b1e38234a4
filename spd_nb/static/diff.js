// What an edit changes on some prompts: KL of the next token, its probabilities, and the continuations
import { h, mountView, bars, latestOnly, percent, shade, formatNumber, unknownAt, unknownWords } from './kit.js'

// Prompt and position after an arrow key; `lengths` are the numbers of tokens of the prompts
export function afterKey({ prompt, position }, key, lengths) {
  if (key === 'ArrowUp' || key === 'ArrowDown') prompt += key === 'ArrowUp' ? -1 : 1
  else position = { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: Infinity }[key] ?? position
  prompt = Math.min(lengths.length - 1, Math.max(0, prompt))
  return { prompt, position: Math.min(lengths[prompt] - 1, Math.max(0, position)) }
}

// Probability that is left for all other tokens, before and after
export function remaining(next) {
  return [1, 2].map(j => Math.max(0, 1 - next.reduce((sum, r) => sum + r[j], 0)))
}

function render({ model, el }) {
  const { body, ask, close } = mountView(el, model, 'diff')
  const g = k => model.get(k), texts = g('texts'), zmax = g('zmax'), lengths = texts.map(t => t.tokens.length)
  let at = { prompt: g('prompt'), position: g('position') }, wanted = null
  const send = latestOnly(async to => { try { await ask('pick', to) } finally { if (wanted === to) { wanted = null; draw() } } })
  function go(to) { at = wanted = to; show(); send(to) }
  const tokens = texts.map((t, p) => t.tokens.map((s, i) => h('span', { class: 'spd-diff-token', role: 'option', 'data-prompt': p, 'data-position': i, style: `background: ${shade(t.kl[i] / zmax)}`, title: `KL ${formatNumber(t.kl[i])} nats` }, h('span', unknownAt(t.unknown, i), s === '' ? '∅' : s))))
  const lines = texts.map((_, p) => h('div', { class: 'spd-diff-prompt spd-text', role: 'listbox', 'aria-orientation': 'horizontal', 'aria-label': `prompt ${p}` }, tokens[p]))
  const strange = texts.map(t => unknownWords(t.tokens, t.unknown))
  const list = h('div', { class: 'spd-diff-prompts', onclick: click, onkeydown: key }, lines.map((l, p) => [l, strange[p]]))
  const next = h('div', { class: 'spd-diff-next', 'aria-live': 'polite' }), written = h('div', { class: 'spd-diff-written' })
  const legend = h('div', { class: 'spd-legend' }, h('span', {}, 'KL(clean‖edited) of the next token, nats:'), [0, .25, .5, .75, 1].map(v => h('span', {}, h('b', { style: `background: ${shade(v)}` }), v === 1 ? `${formatNumber(zmax)} or more` : formatNumber(v * zmax))))
  body.replaceChildren(...[h('div', { class: 'spd-faint spd-diff-about' }, g('about')), legend, list, h('div', { class: 'spd-diff-parts' }, next, written), g('measures') && measured(g('measures'))].filter(Boolean))

  function click(e) {
    const t = e.target.closest('[data-position]')
    if (t) go({ prompt: Number(t.dataset.prompt), position: Number(t.dataset.position) })
  }
  function key(e) {
    if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(e.key)) return
    go(afterKey(at, e.key, lengths))
    tokens[at.prompt][at.position].focus()
    e.preventDefault()
  }
  function draw() { // what Python says, unless more was asked meanwhile
    if (wanted) return
    at = { prompt: g('prompt'), position: Math.min(g('position'), lengths[g('prompt')] - 1) }
    show()
  }
  function show() {
    const { prompt, position } = at, t = texts[prompt], others = remaining(t.next[position])
    tokens.forEach((ts, p) => ts.forEach((e, i) => {
      const here = p === prompt && i === position
      e.setAttribute('tabindex', here ? 0 : -1)
      e.setAttribute('aria-selected', here)
    }))
    next.replaceChildren(
      h('h3', {}, 'Next token after ', h('code', { class: 'spd-diff-context' }, `${position > 5 ? '…' : ''}${t.tokens.slice(Math.max(0, position - 5), position + 1).join('')}`)),
      h('p', { class: 'spd-legend' }, h('span', {}, h('i', { style: 'background: var(--spd-accent)' }), 'before'), h('span', {}, h('i', { style: 'background: var(--spd-orange)' }), 'after'), h('span', {}, `KL ${formatNumber(t.kl[position])} nats`)),
      bars(t.next[position]), h('p', { class: 'spd-faint spd-num' }, `all others ${others.map(percent).join(' → ')}`))
    const side = (name, parts) => h('div', {}, h('h3', {}, name), h('div', { class: 'spd-text spd-diff-text' }, parts.length ? parts.map(([s, differs]) => differs ? [s.match(/^\s*/)[0], h('mark', {}, s.trimStart())] : s) : h('span', { class: 'spd-faint' }, 'nothing')))
    written.replaceChildren(h('p', { class: 'spd-faint' }, t.before.some(p => p[1]) || t.after.some(p => p[1]) ? `How it goes on after prompt ${prompt}, greedily; marked is what differs` : `How it goes on after prompt ${prompt}, greedily: no difference`), h('div', { class: 'spd-diff-sides' }, side('before', t.before), side('after', t.after)))
  }
  model.on('change:prompt', draw)
  model.on('change:position', draw)
  show()
  return () => { model.off('change:prompt', draw); model.off('change:position', draw); close() }
}

function measured(rows) {
  const n = v => h('td', { class: 'spd-num' }, formatNumber(v))
  return h('div', { class: 'spd-diff-measured' }, h('h3', {}, 'Effect and cost, with the middle 95 % of a bootstrap'), h('table', {},
    h('thead', {}, h('tr', {}, ['measure', 'value', 'low', 'high', 'places', 'what'].map(c => h('th', { scope: 'col' }, c)))),
    h('tbody', {}, rows.map(r => h('tr', {}, h('th', { scope: 'row', title: r[5] }, r[0]), n(r[1]), n(r[2]), n(r[3]), h('td', { class: 'spd-num' }, String(r[4])), h('td', { class: 'spd-faint' }, r[5]))))))
}

function answer(model, what, { prompt, position }) {
  if (what === 'pick') {
    model.set('prompt', prompt)
    model.set('position', position)
  }
  return null
}

export default { render, answer }
