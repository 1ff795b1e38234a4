import { h, latestOnly, nameElement, percent, debounce, formatNumber, mountView, token } from './kit.js'
import { detail } from './detail.js'

const ROW = 27, PAGE = 60
const COLUMNS = [['key', 'component'], ['density', 'density'], ['mean_ci', 'mean CI'], ['stability', 'other runs'], ['input', 'fires on'], ['output', 'predicts'], ['input_label', 'input label'], ['output_label', 'output label']]
const SORTS = ['key', 'density', 'mean_ci', 'stability', 'input_label', 'output_label', 'pmi', 'precision']

// The same as Python's `rows`, from a table in the page: numbers of the rows, in order, and PMI and precision of the searched token
export function filterRows(table, { token = '', side = 'output', label = '', site = '', alive = true, sort = 'density', down = true }) {
  const want = new RegExp(label, 'i'), hits = new Map()
  let rows = table.key.map((_, i) => i)
  if (token) {
    // as `by_token`: several tokens that the text stands for count as one. How often each comes anywhere follows from its precision and PMI
    const rates = new Map(), own = i => table[side][i].filter(([t]) => t === token || token[0] !== ' ' && [` ${token}`, `${token} `].includes(t))
    for (const i of rows) for (const [t, precision, pmi] of own(i)) rates.set(t, precision / Math.exp(pmi))
    if (!rates.size) throw new Error(`no component in this file lists the token ‘${token}’`)
    const rate = [...rates.values()].reduce((a, b) => a + b)
    for (const i of rows) {
      const precision = own(i).reduce((a, [, p]) => a + p, 0)
      if (table.density[i] <= .5 && precision * table.firings[i] >= 4.99) hits.set(i, { precision, pmi: Math.log(precision / rate) })
    }
    rows = rows.filter(i => hits.has(i))
  }
  rows = rows.filter(i => (!site || table.key[i].slice(0, table.key[i].lastIndexOf(':')) === site) && (!alive || table.firings[i] > 0) && (!label || want.test(table.input_label[i]) || want.test(table.output_label[i])))
  const by = i => sort === 'pmi' || sort === 'precision' ? hits.get(i)?.[sort] ?? table.density[i] : sort === 'key' ? i : table[sort][i]
  const order = (a, b) => by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0, unknown = i => (by(i) ?? null) === null // those come last either way
  return { rows: rows.sort((a, b) => unknown(a) - unknown(b) || (down ? order(b, a) : order(a, b))), hits }
}

// Numbers of the pages that hold the rows `from` to `to`
export const pagesBetween = (from, to) => { const out = []; for (let p = Math.floor(from / PAGE); p <= Math.floor(Math.max(from, to) / PAGE); p++) out.push(p); return out }

function answer(model, what, args) {
  const table = model.get('table'), details = model.get('details')
  if (what === 'rows') {
    const { rows, hits } = filterRows(table, args)
    return { total: rows.length, start: args.start, rows: rows.slice(args.start, args.start + args.n).map(i => ({ key: table.key[i], density: table.density[i], mean_ci: table.mean_ci[i], firings: table.firings[i], stability: table.stability?.[i],
      input_label: table.input_label[i], output_label: table.output_label[i], input: table.input[i].slice(0, 4).map(t => t[0]), output: table.output[i].slice(0, 4).map(t => t[0]), ...hits.get(i) })) }
  }
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (what === 'pick') return model.set('key', args.key)
  if (what === 'detail') return structuredClone(details[args.key])
  if (what === 'examples') return []
  return details[args.key][what]
}

function render({ model, el }) {
  const { body, note, ask, close } = mountView(el, model, 'browser')
  const query = { sort: 'density', down: true }, columns = COLUMNS.filter(([name]) => name !== 'stability' || model.get('stable'))
  let total = 0, got = new Map(), asked = new Set(), generation = 0, current = -1, picking = 0
  let accepted = {}, asking = {} // the filters of what is shown, and of what is being asked
  const field = (label, props) => h('input', { 'aria-label': label, placeholder: label, type: 'search', spellcheck: 'false', autocomplete: 'off', ...props })
  const tokenBox = field('a token, e.g. he', { class: 'spd-token-box', oninput: () => again() })
  const sideBox = h('select', { 'aria-label': 'side of the token', onchange: () => again() }, h('option', { value: 'output' }, 'predicted'), h('option', { value: 'input' }, 'read'))
  const labelBox = field('labels (regex)', { class: 'spd-label-box', oninput: () => again() })
  const siteBox = h('select', { 'aria-label': 'site', onchange: () => again() }, h('option', { value: '' }, 'all sites'), model.get('sites').map(s => h('option', { value: s }, s)))
  const aliveBox = h('input', { type: 'checkbox', checked: true, onchange: () => again() })
  const count = h('span', { class: 'spd-num spd-faint', role: 'status' })
  const head = h('div', { class: 'spd-head', role: 'row' })
  const sheet = h('div', { class: 'spd-sheet' })
  const scroll = h('div', { class: 'spd-scroll', tabindex: 0, role: 'grid', 'aria-label': 'components', onscroll: () => draw(), onkeydown: key })
  const pane = detail(ask, pick, model.get('details'))
  scroll.append(sheet)
  body.append(h('div', { class: 'spd-row spd-filters' }, tokenBox, sideBox, labelBox, siteBox, h('label', {}, aliveBox, 'only those that fire'), count), note, h('div', { class: 'spd-panes' }, h('div', { class: `spd-table${model.get('stable') ? ' spd-stable' : ''}` }, head, scroll), pane.el))

  const filters = () => ({ token: tokenBox.value, side: sideBox.value, label: labelBox.value, site: siteBox.value, alive: aliveBox.checked, ...query })
  // Answers to quick keys come late: where the next key goes from is looked up when the last of them is there
  async function pick(key) {
    picking++
    try { await ask('pick', { key }) } catch { /* shown by `ask` */ }
    if (--picking === 0) locate()
  }
  function locate() { current = [...got].find(([, r]) => r.key === model.get('key'))?.[0] ?? -1 }
  function header() {
    head.replaceChildren(...columns.map(([name, text]) => {
      const can = SORTS.includes(name) || name === 'output' && sideBox.value === 'output' || name === 'input' && sideBox.value === 'input'
      const by = SORTS.includes(name) ? name : 'pmi', on = query.sort === by && can && (by !== 'pmi' || tokenBox.value)
      return h('div', { role: 'columnheader', class: `spd-col-${name}`, 'aria-sort': on ? query.down ? 'descending' : 'ascending' : 'none' },
        !can || by === 'pmi' && !tokenBox.value ? text : h('button', { onclick: () => { query.down = query.sort === by ? !query.down : !['key', 'input_label', 'output_label'].includes(by); query.sort = by; reset() } }, text, on ? query.down ? ' ↓' : ' ↑' : ''))
    }))
  }
  function cells(r, i) {
    const share = r.pmi === undefined || r.pmi === null ? null : h('span', { class: 'spd-num spd-faint', title: 'PMI in nats, and the share' }, `${formatNumber(r.pmi)} · ${percent(r.precision)} `)
    const tokens = (side, list) => [sideBox.value === side ? share : null, list.map(t => token(t))]
    return h('div', { class: 'spd-line', role: 'row', 'aria-rowindex': i + 1, 'data-row': i, 'aria-selected': String(r.key === model.get('key')), 'data-key': r.key, style: `top: ${i * ROW}px`, onclick: () => { current = i; pick(r.key) } },
      h('div', { class: 'spd-col-key' }, nameElement(r.key)), h('div', { class: 'spd-col-density spd-num' }, percent(r.density)), h('div', { class: 'spd-col-mean_ci spd-num' }, formatNumber(r.mean_ci)),
      model.get('stable') ? h('div', { class: 'spd-col-stability spd-num', title: 'similarity with its partners in other runs' }, typeof r.stability === 'number' ? r.stability.toFixed(2) : '') : null,
      h('div', { class: 'spd-col-input' }, tokens('input', r.input)), h('div', { class: 'spd-col-output' }, tokens('output', r.output)), h('div', { class: 'spd-col-input_label' }, r.input_label), h('div', { class: 'spd-col-output_label' }, r.output_label))
  }
  function draw() {
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 5), last = Math.min(total - 1, Math.ceil((scroll.scrollTop + scroll.clientHeight) / ROW) + 5)
    if (total) for (const p of pagesBetween(first, last)) need(p)
    const lines = []
    for (let i = first; i <= last; i++) if (got.has(i)) lines.push(cells(got.get(i), i))
    sheet.style.height = `${total * ROW}px`
    sheet.replaceChildren(...lines)
  }
  async function need(p) {
    if (asked.has(p)) return
    asked.add(p)
    const now = generation
    try {
      const a = await ask('rows', { ...accepted, start: p * PAGE, n: PAGE })
      if (now === generation) { take(a); draw() }
    } catch { asked.delete(p) }
  }
  function take(a) {
    total = a.total
    a.rows.forEach((r, i) => got.set(a.start + i, r))
    const here = model.get('table')?.key.length // in a page
    count.textContent = `${total.toLocaleString('en')} components${here ? `; this page holds ${here.toLocaleString('en')} of ${model.get('of').toLocaleString('en')}` : ''}`
  }
  // `follow`: another display, or a cell, has set these filters already
  const reset = latestOnly(async (follow = false) => {
    asking = filters()
    const a = await ask('rows', { ...asking, start: 0, n: PAGE, follow })
    accepted = asking
    generation++
    got = new Map(), asked = new Set([0]), current = a.rows.findIndex(r => r.key === model.get('key'))
    scroll.scrollTop = 0
    take(a)
    header()
    draw()
  })
  const again = debounce((follow = false) => { query.sort = tokenBox.value ? 'pmi' : query.sort === 'pmi' ? 'density' : query.sort; if (tokenBox.value) query.down = true; reset(follow) }, 10)
  function key(e) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -Infinity, End: Infinity }[e.key]
    if (!step || !total) return
    e.preventDefault()
    current = Math.min(total - 1, Math.max(0, current + step))
    const top = current * ROW
    if (top < scroll.scrollTop) scroll.scrollTop = top
    else if (top + ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + ROW - scroll.clientHeight
    const at = current
    Promise.all(pagesBetween(at, at).map(need)).then(() => { if (current === at && got.has(at)) pick(got.get(at).key) })
  }
  function selected() {
    pane.show(model.get('key'))
    for (const line of sheet.children) line.setAttribute('aria-selected', String(line.dataset.key === model.get('key')))
    if (picking === 0) locate()
  }
  const boxes = { token: tokenBox, side: sideBox, label: labelBox }
  const pushed = Object.fromEntries(Object.keys(boxes).map(k => [k, () => {
    if (model.get(k) === asking[k]) return // what this display has asked for itself
    boxes[k].value = model.get(k)
    again(true)
  }]))
  model.on('change:key', selected)
  for (const k in boxes) { boxes[k].value = model.get(k); model.on(`change:${k}`, pushed[k]) }
  if (tokenBox.value) query.sort = 'pmi'
  header()
  reset(true)
  selected()
  return () => { close(); model.off('change:key', selected); for (const k in boxes) model.off(`change:${k}`, pushed[k]) }
}

export default { render, answer }
