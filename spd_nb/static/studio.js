import { h, bars, chart, latest, settled, shade, short, stage, token } from './kit.js'

// A change as its card makes it: `factor` where the component is scaled, `token` and `strength` where it writes a token
export const changed = (changes, i, more) => changes.map((c, j) => j === i ? { ...c, ...more } : c)

// A number with its interval
export const withInterval = r => r.low === null ? short(r.value) : `${short(r.value)}  (${short(r.low)} to ${short(r.high)})`

function answer(model, what) {
  if (what === 'show') return model.get('shown')
  if (what === 'dose') return model.get('dosed')
  if (what === 'code') return model.get('line')
  throw new Error('This is a picture of a studio; another edit needs Python.')
}

function render({ model, el }) {
  const { body, ask, close } = stage(el, model, 'studio')
  let at = null, which = 0, changes = model.get('changes'), own = 0
  const quiet = p => p.catch(() => {})
  const prompt = h('textarea', { class: 'spd-prompt', rows: 2, 'aria-label': 'text', spellcheck: 'false', oninput: () => { at = null; soon() } })
  const gate = h('input', { type: 'checkbox', class: 'spd-gate', onchange: () => { refresh(); dose() } })
  const cards = h('div', { class: 'spd-cards' })
  const line = h('div', { class: 'spd-text spd-studio-tokens', 'aria-label': 'tokens' }), next = h('div'), curve = h('div', { class: 'spd-curve' })
  const finder = h('input', { type: 'search', 'aria-label': 'find components that predict a token', placeholder: 'predicts a token, e.g. he', spellcheck: 'false', oninput: () => search() }), hits = h('div', { class: 'spd-hits' })
  const offered = h('span'), written = h('div'), code = h('div'), result = h('div')
  const measured = h('input', { type: 'text', 'aria-label': 'tokens to measure', placeholder: 'token to measure', spellcheck: 'false' })
  const button = (text, cls, onclick) => h('button', { class: cls, onclick }, text)
  body.append(prompt,
    h('div', { class: 'spd-bench' },
      h('div', {}, h('div', { class: 'spd-row' }, h('label', {}, gate, 'only where the component is needed'), offered), cards, h('h3', {}, 'add a component'), finder, hits),
      h('div', {}, h('h3', {}, 'KL of the next token, position by position'), line, next), h('div', {}, h('h3', {}, 'stronger and weaker'), curve)),
    h('div', { class: 'spd-row spd-doings' }, button('write on', 'spd-write', write), button('Python', 'spd-code-button', python), button('measure', 'spd-measure', measure), measured), written, code, result)

  const refresh = latest(async () => {
    own++
    const a = await ask('show', { prompt: prompt.value, changes, gate: gate.checked, at })
    own--
    at = a.at
    const most = Math.max(.05, ...a.kl)
    line.replaceChildren(...a.tokens.map((t, i) => h('button', { class: 'spd-tok', 'aria-selected': String(i === at), title: `KL ${short(a.kl[i])} nats`, style: `background: ${shade(a.kl[i] / most)}`, onclick: () => { at = i; refresh(); dose() } }, t === '' ? '∅' : t)))
    next.replaceChildren(h('p', {}, 'next token after ', token(a.tokens[at]), ` before → with the edit, KL ${short(a.kl[at])} nats`), bars(a.next))
  })
  const dose = latest(async () => {
    if (!changes.length) { curve.replaceChildren(h('p', { class: 'spd-faint' }, 'Add a component.')); return }
    which = Math.min(which, changes.length - 1)
    const d = await ask('dose', { prompt: prompt.value, changes, gate: gate.checked, at, which })
    const c = changes[which]
    curve.replaceChildren(chart({ series: d.curves.map(s => ({ name: s.name, x: d.x, y: s.p })), x: { title: c.token ? `strength of ${c.token} in ${c.key}` : `how much of ${c.key}` }, y: { title: 'probability', from: 0, to: 1 }, mark: c.token ? c.strength : c.factor, label: 'dose-response' }))
  })
  const soon = settled(() => { refresh(); dose() }, 120)
  function set(next, redraw = true) { changes = next; if (redraw) draw(); refresh() }
  function draw() {
    cards.replaceChildren(...(changes.length ? changes.map(card) : [h('p', { class: 'spd-faint' }, 'No component is edited yet.')]))
  }
  function card(c, i) {
    const value = h('output', { class: 'spd-num' })
    const say = () => { value.textContent = changes[i].token ? short(changes[i].strength) : changes[i].factor === 0 ? 'out' : `× ${short(changes[i].factor)}` }
    const slide = h('input', { type: 'range', class: 'spd-slide', min: c.token ? 0 : -1, max: 3, step: .05, value: c.token ? c.strength : c.factor, 'aria-label': `how much of ${c.key}`, oninput: e => {
      changes = changed(changes, i, c.token ? { strength: Number(e.target.value) || .05 } : { factor: Number(e.target.value) })
      which = i
      say()
      refresh()
      dose()
    } })
    const write = h('input', { type: 'text', class: 'spd-write-token', value: c.token, placeholder: 'its own', size: 8, spellcheck: 'false', 'aria-label': `token that ${c.key} writes`, onchange: e => { which = i; set(changed(changes, i, { token: e.target.value })); dose() } })
    say()
    return h('div', { class: 'spd-card' }, h('code', { class: 'spd-key' }, c.key), h('button', { title: 'leave it as it is', 'aria-label': `remove ${c.key}`, onclick: () => { set(changes.filter((_, j) => j !== i)); dose() } }, '✕'),
      h('div', { class: 'spd-row spd-slider' }, slide, value), h('label', {}, 'writes', write))
  }
  function add(key) { if (!changes.some(c => c.key === key)) { which = changes.length; set([...changes, { key, factor: 0, token: '', strength: 1 }]); dose() } }
  const search = settled(latest(async () => {
    if (!finder.value) { hits.replaceChildren(); return }
    const found = await ask('find', { token: finder.value })
    hits.replaceChildren(...found.map(f => h('button', { class: 'spd-near', onclick: () => add(f.key) }, h('code', {}, f.key), h('span', { class: 'spd-num' }, `PMI ${short(f.pmi)}`), h('span', { class: 'spd-faint' }, f.label))))
  }), 60)
  async function write() {
    try {
      const w = await ask('write_on', { n: 30 })
      written.replaceChildren(h('div', { class: 'spd-two' }, h('section', {}, h('h3', {}, 'before'), h('div', { class: 'spd-text' }, h('span', { class: 'spd-faint' }, prompt.value), h('b', {}, w.before))), h('section', {}, h('h3', {}, 'with the edit'), h('div', { class: 'spd-text' }, h('span', { class: 'spd-faint' }, prompt.value), h('b', {}, w.after)))))
    } catch { /* shown */ }
  }
  async function python() {
    try {
      const text = await ask('code')
      code.replaceChildren(h('h3', {}, 'the same in Python'), h('pre', { class: 'spd-text spd-code' }, text), button('copy', '', () => navigator.clipboard?.writeText(text)))
    } catch { /* shown */ }
  }
  async function measure() {
    try {
      result.replaceChildren(h('p', { class: 'spd-faint' }, 'measuring…'))
      const rows = await ask('measure', { token: measured.value })
      result.replaceChildren(h('h3', {}, 'measured'), h('table', {}, h('tr', {}, ['', 'value (95 %)', ''].map(t => h('th', {}, t))), rows.map(r => h('tr', {}, h('td', {}, r.measure), h('td', { class: 'spd-num' }, withInterval(r)), h('td', { class: 'spd-faint' }, r.what)))))
    } catch { result.replaceChildren() }
  }
  function offer() {
    const key = model.get('key')
    offered.replaceChildren(...(key && !changes.some(c => c.key === key) ? [button(`add ${key}`, 'spd-offer', () => { add(key); offer() })] : []))
  }
  function pushed() {
    if (own) return // the answer to what this view itself has asked
    changes = model.get('changes')
    prompt.value = model.get('prompt')
    gate.checked = model.get('gate')
    draw()
    refresh()
    dose()
  }
  model.on('change:key', offer)
  for (const k of ['changes', 'prompt', 'gate']) model.on(`change:${k}`, pushed)
  pushed()
  offer()
  return () => { close(); model.off('change:key', offer); for (const k of ['changes', 'prompt', 'gate']) model.off(`change:${k}`, pushed) }
}

export default { render, answer }
