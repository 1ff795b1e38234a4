import { h, bars, latestOnly, nameElement, debounce, shade, formatNumber, mountView, token, unknownAt, unknownWords } from './kit.js'
import { detail } from './detail.js'

// What is active at a token, by site: [{site, C, cells: [{key, ci, label}]}], sites in the order of the model
export function strips(reading, t) {
  return reading.sites.map(({ site, C }, s) => ({ site, C, cells: reading.active[t].filter(a => a[0] === s).map(([, c, ci, label]) => ({ key: `${site}:${c}`, c, ci, label })) }))
}

function answer(model, what, args) {
  if (what === 'read') {
    const readings = model.get('readings')
    if (!Object.hasOwn(readings, args.text)) throw new Error('This file holds the texts of its list; another needs Python.')
    return readings[args.text]
  }
  const details = model.get('details')
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (what === 'pick') return model.set('key', args.key)
  if (what === 'examples') return []
  return what === 'detail' ? structuredClone(details[args.key]) : details[args.key][what]
}

function render({ model, el }) {
  const { body, note, ask, forget, close } = mountView(el, model, 'lens')
  let reading = null, at = 0, held = null, asking = null
  const kept = model.get('details') // in a page: not every component has its detail there
  const texts = Object.keys(model.get('readings') || {})
  const box = texts.length ? h('select', { 'aria-label': 'text', class: 'spd-prompt', onchange: () => read(box.value, true) }, texts.map(t => h('option', { value: t }, t)))
    : h('textarea', { 'aria-label': 'text', class: 'spd-prompt', rows: 2, spellcheck: 'false', placeholder: 'Type or paste text', oninput: () => typed() })
  const line = h('div', { class: 'spd-text spd-prompt-tokens', role: 'listbox', 'aria-label': 'tokens', onkeydown: key })
  const sites = h('div', { class: 'spd-strips' }), next = h('div', { class: 'spd-next' }), strange = h('div', { role: 'status' })
  const result = h('div', { class: 'spd-result' }, line, strange, h('div', { class: 'spd-read' }, sites, next))
  const pane = detail(ask, k => ask('pick', { key: k }).catch(() => {}), kept)
  body.append(box, note, result, kept ? h('p', { class: 'spd-faint' }, 'This file keeps the details of the components that can be clicked.') : '', pane.el)

  // `follow`: another display, or a cell, has set the text already
  const read = latestOnly(async (text, follow = false) => {
    result.hidden = !text
    if (!text) { forget('read'); return }
    asking = text
    try { reading = await ask('read', { text, follow }) } finally { asking = null }
    at = reading.tokens.length - 1
    held = at
    draw()
  })
  const typed = debounce(() => read(box.value), 120)
  function draw() {
    const most = Math.max(...reading.l0, 1)
    line.replaceChildren(...reading.tokens.map((t, i) => h('button', { class: 'spd-tok', role: 'option', 'aria-selected': String(i === held), tabindex: i === held ? 0 : -1,
      title: `${reading.l0[i]} components`, onclick: () => { held = i; look(i, true) }, onmouseenter: () => look(i), onmouseleave: () => look(held), onfocus: () => look(i) },
    h('span', unknownAt(reading.unknown, i), t === '' ? '∅' : t), h('span', { class: 'spd-l0', style: `background: ${shade(reading.l0[i] / most)}` }, String(reading.l0[i])))))
    strange.replaceChildren(...[unknownWords(reading.tokens, reading.unknown)].filter(Boolean))
    look(at)
  }
  function look(i, hold = false) {
    if (!reading || i === null) return
    at = i
    ;[...line.children].forEach((e, j) => { e.setAttribute('aria-selected', String(j === held)); e.tabIndex = j === held ? 0 : -1; e.classList.toggle('spd-over', j === at) })
    const about = o => ({ 'data-key': o.key, title: `${o.key}, importance ${formatNumber(o.ci)}${o.label ? '\n' + o.label : ''}`, style: `background: ${shade(o.ci)}` })
    const cell = o => !kept || Object.hasOwn(kept, o.key) ? h('button', { ...about(o), class: 'spd-cell', onclick: () => ask('pick', { key: o.key }).catch(() => {}) }, `:${o.c}`) : h('span', { ...about(o), class: 'spd-cell' }, `:${o.c}`)
    const shown = reading.active[i].length
    sites.replaceChildren(h('h3', {}, 'active at ', token(reading.tokens[i]), shown < reading.l0[i] ? `, the ${shown} most telling of ${reading.l0[i]}` : ''), ...strips(reading, i).map(s => h('div', { class: 'spd-strip' },
      nameElement(s.site, { class: 'spd-site' }), h('div', { class: 'spd-ticks', 'aria-hidden': 'true' }, s.cells.map(o => h('i', { style: `left: ${(100 * o.c / s.C).toFixed(2)}%; opacity: ${Math.max(.15, o.ci).toFixed(2)}` }))),
      h('div', { class: 'spd-cells' }, s.cells.length ? s.cells.map(cell) : h('span', { class: 'spd-faint' }, 'none')))))
    next.replaceChildren(h('h3', {}, 'next token after ', token(reading.tokens[i])), bars(reading.next[i]))
    if (hold) line.children[i].focus()
  }
  function key(e) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[e.key]
    if (!step || !reading) return
    e.preventDefault()
    held = Math.min(reading.tokens.length - 1, Math.max(0, held + step))
    look(held, true)
  }
  function picked() { pane.show(model.get('key')) }
  function pushed() {
    const text = model.get('prompt')
    if (text === asking) return // what this display has asked for itself
    box.value = text
    read(text, true)
  }
  model.on('change:key', picked)
  model.on('change:prompt', pushed)
  pushed()
  picked()
  return () => { close(); model.off('change:key', picked); model.off('change:prompt', pushed) }
}

export default { render, answer }
