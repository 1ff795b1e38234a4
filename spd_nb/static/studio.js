import { h, bars, chart, latestOnly, nameElement, debounce, shade, formatNumber, mountView, token, unknownAt, unknownWords } from './kit.js'

// Changes with change `i` replaced: `factor` scales a component, `token` and `strength` make it write a token
export const withChange = (changes, i, more) => changes.map((c, j) => j === i ? { ...c, ...more } : c)

// A number with its confidence interval
export const withInterval = r => r.low === null ? formatNumber(r.value) : `${formatNumber(r.value)}  (${formatNumber(r.low)} to ${formatNumber(r.high)})`

// Whether two states of the studio hold the same edit of the same text
export const sameEdit = (a, b) => JSON.stringify([a.prompt, a.gate, a.changes.map(c => [c.key, c.factor, c.token, c.strength])]) === JSON.stringify([b.prompt, b.gate, b.changes.map(c => [c.key, c.factor, c.token, c.strength])])

function answer(model, what, args) {
  const kept = model.get('kept')
  if (what === 'code') return kept.code
  if (!['preview', 'dose'].includes(what) || !sameEdit(args, { prompt: model.get('prompt'), gate: model.get('gate'), changes: model.get('changes') })) throw new Error('This page holds one edit of one text; another needs Python.')
  const at = args.at ?? kept.next.length - 1
  if (what === 'preview') return { at, tokens: kept.tokens, unknown: kept.unknown, kl: kept.kl, next: kept.next[at] }
  return kept.doses[args.which][at]
}

function render({ model, el }) {
  const { body, note, ask, forget, close } = mountView(el, model, 'studio')
  const still = Boolean(model.get('kept')) // a page: what is edited stays as it is
  let chosen = null, which = 0, changes = model.get('changes'), asking = null
  const prompt = h('textarea', { class: 'spd-prompt', rows: 2, 'aria-label': 'text', spellcheck: 'false', readonly: still, oninput: () => { chosen = null; stale(); soon() } })
  const gate = h('input', { type: 'checkbox', class: 'spd-gate', disabled: still, onchange: () => update() })
  const cards = h('div', { class: 'spd-cards' })
  const line = h('div', { class: 'spd-text spd-studio-tokens', role: 'listbox', 'aria-label': 'tokens', onkeydown: move }), strange = h('div', { role: 'status' }), next = h('div'), curve = h('div', { class: 'spd-curve' })
  const finder = h('input', { type: 'search', 'aria-label': 'find components that predict a token', placeholder: 'predicts a token, e.g. he', spellcheck: 'false', disabled: still, oninput: () => search() }), hits = h('div', { class: 'spd-hits' })
  const offered = h('span'), written = h('div'), code = h('div'), result = h('div')
  const measured = h('input', { type: 'text', 'aria-label': 'tokens to measure', placeholder: 'token to measure', spellcheck: 'false', disabled: still, onkeydown: e => { if (e.key === 'Enter') measure() } })
  const button = (text, cls, onclick, props = {}) => h('button', { class: cls, onclick, ...props }, text)
  const state = () => ({ prompt: prompt.value, changes, gate: gate.checked })
  body.append(prompt, note,
    h('div', { class: 'spd-bench' },
      h('div', {}, h('div', { class: 'spd-row' }, h('label', {}, gate, 'only where the component is needed'), offered), cards, h('h3', {}, 'add a component'), finder, hits),
      h('div', { class: 'spd-result' }, h('h3', {}, 'KL of the next token, shaded from 0 to 1 nat'), line, strange, next), h('div', { class: 'spd-result' }, h('h3', {}, 'stronger and weaker'), curve)),
    h('div', { class: 'spd-row spd-doings' }, button('write on', 'spd-write', write, { disabled: still }), button('Python', 'spd-code-button', python), button('measure', 'spd-measure', measure, { disabled: still }), measured), written, code, result)

  // `follow`: another display, or a cell, has set all this already
  const refresh = latestOnly(async (follow = false) => {
    asking = state()
    let a
    try { a = await ask('preview', { ...asking, at: chosen, follow }) } finally { asking = null }
    line.replaceChildren(...a.tokens.map((t, i) => h('button', { class: 'spd-tok', role: 'option', 'aria-selected': String(i === a.at), tabindex: i === a.at ? 0 : -1, title: `KL ${formatNumber(a.kl[i])} nats`, style: `background: ${shade(a.kl[i])}`, onclick: () => choose(i) }, h('span', unknownAt(a.unknown, i), t === '' ? '∅' : t))))
    strange.replaceChildren(...[unknownWords(a.tokens, a.unknown)].filter(Boolean))
    next.replaceChildren(h('p', {}, 'next token after ', token(a.tokens[a.at]), ` before → with the edit, KL ${formatNumber(a.kl[a.at])} nats`), bars(a.next))
  })
  const dose = latestOnly(async () => {
    if (!changes.length) { forget('dose'); curve.replaceChildren(h('p', { class: 'spd-faint' }, 'Add a component.')); return }
    which = Math.min(which, changes.length - 1)
    const c = changes[which], d = await ask('dose', { ...state(), at: chosen, which })
    curve.replaceChildren(chart({ series: d.curves.map(s => ({ name: s.name, x: d.x, y: s.p })), x: { title: c.token ? `strength of ${c.token} in ${c.key}` : `how much of ${c.key}` }, y: { title: 'probability', from: 0, to: 1 }, mark: c.token ? c.strength : c.factor, label: 'dose-response' }))
  })
  function stale() { for (const e of [written, code, result]) e.replaceChildren() } // they are of the edit as it was
  function update(follow = false) { stale(); refresh(follow); dose() }
  const soon = debounce(update, 120)
  async function choose(i) {
    chosen = i
    dose()
    await refresh()
    line.children[i]?.focus()
  }
  function move(e) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[e.key], now = [...line.children].findIndex(t => t.tabIndex === 0)
    if (!step || now < 0) return
    e.preventDefault()
    choose(Math.min(line.children.length - 1, Math.max(0, now + step)))
  }
  function set(all) { changes = all; draw(); update() }
  function draw() {
    cards.replaceChildren(...(changes.length ? changes.map(card) : [h('p', { class: 'spd-faint' }, 'No component is edited yet.')]))
    offer()
  }
  function card(c, i) {
    const value = h('output', { class: 'spd-num' }), now = c.token ? c.strength : c.factor
    const say = () => { value.textContent = changes[i].token ? formatNumber(changes[i].strength) : changes[i].factor === 0 ? 'out' : `× ${formatNumber(changes[i].factor)}` }
    const slide = h('input', { type: 'range', class: 'spd-slide', min: c.token ? .05 : Math.min(-1, now), max: Math.max(3, now), step: .05, value: now, disabled: still, 'aria-label': `how much of ${c.key}`, oninput: e => {
      changes = withChange(changes, i, c.token ? { strength: Number(e.target.value) } : { factor: Number(e.target.value) })
      which = i
      say()
      update()
    } })
    const write = e => { which = i; if (e.target.value !== changes[i].token) set(withChange(changes, i, { token: e.target.value })) }
    const writes = h('input', { type: 'text', class: 'spd-write-token', value: c.token, placeholder: 'its own', size: 8, spellcheck: 'false', disabled: still, 'aria-label': `token that ${c.key} writes`, onchange: write, onkeydown: e => { if (e.key === 'Enter') write(e) } })
    say()
    return h('div', { class: 'spd-card' }, h('code', { class: 'spd-key' }, c.key), button('✕', '', () => { set(changes.filter((_, j) => j !== i)); finder.focus() }, { title: 'leave it as it is', 'aria-label': `remove ${c.key}`, disabled: still }),
      h('div', { class: 'spd-row spd-slider' }, slide, value), h('label', {}, 'writes', writes))
  }
  function add(key) { if (!changes.some(c => c.key === key)) { which = changes.length; set([...changes, { key, factor: 0, token: '', strength: 1 }]) } }
  const search = debounce(latestOnly(async () => {
    hits.replaceChildren()
    if (!finder.value) { forget('find'); return }
    const found = await ask('find', { token: finder.value })
    hits.replaceChildren(...found.map(f => h('button', { class: 'spd-near', onclick: () => add(f.key) }, nameElement(f.key), h('span', { class: 'spd-num' }, `PMI ${formatNumber(f.pmi)}`), h('span', { class: 'spd-faint' }, f.label))))
  }), 60)
  // An answer is shown only if it is of what the studio shows by then
  async function fill(place, what, args, show) {
    const asked = state()
    try {
      const a = await ask(what, { ...asked, ...args })
      if (sameEdit(asked, state())) place.replaceChildren(...show(a, asked))
    } catch { place.replaceChildren() /* the reason is shown by `ask` */ }
  }
  const text = (title, start, more) => h('section', {}, h('h3', {}, title), h('div', { class: 'spd-text' }, h('span', { class: 'spd-faint' }, start), h('b', {}, more)))
  function write() { return fill(written, 'write_on', { n: 30 }, (w, s) => [h('div', { class: 'spd-two' }, text('before', s.prompt, w.before), text('with the edit', s.prompt, w.after))]) }
  function python() { return fill(code, 'code', {}, c => [h('h3', {}, 'the same in Python'), h('pre', { class: 'spd-text spd-code' }, c), button('copy', '', async e => {
    try { await navigator.clipboard.writeText(c); e.target.textContent = 'copied' } catch { e.target.textContent = 'select it and copy: this page may not' }
  })]) }
  function measure() { return fill(result, 'measure', { token: measured.value }, rows => [h('h3', {}, 'measured'), h('table', {}, h('tr', {}, ['', 'value (95 %)', ''].map(t => h('th', {}, t))), rows.map(r => h('tr', {}, h('td', {}, r.measure), h('td', { class: 'spd-num' }, withInterval(r)), h('td', { class: 'spd-faint' }, r.what))))]) }
  function offer() {
    const key = model.get('key')
    offered.replaceChildren(...(key && !changes.some(c => c.key === key) ? [h('button', { class: 'spd-offer', onclick: () => add(key) }, 'add ', nameElement(key))] : []))
  }
  function pushed() {
    const now = { prompt: model.get('prompt'), changes: model.get('changes'), gate: model.get('gate') }
    if (asking && sameEdit(now, asking) || sameEdit(now, state())) return // what this display has asked for itself
    if (now.prompt !== prompt.value) chosen = null
    changes = now.changes
    prompt.value = now.prompt
    gate.checked = now.gate
    draw()
    update(true)
  }
  model.on('change:key', offer)
  for (const k of ['changes', 'prompt', 'gate']) model.on(`change:${k}`, pushed)
  prompt.value = model.get('prompt')
  gate.checked = model.get('gate')
  draw()
  update(true)
  return () => { close(); model.off('change:key', offer); for (const k of ['changes', 'prompt', 'gate']) model.off(`change:${k}`, pushed) }
}

export default { render, answer }
