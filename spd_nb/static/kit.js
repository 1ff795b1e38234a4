// Shared by the front ends: elements, calls to Python, bars, tokens, charts. Everything that comes from Python is inserted as text.

// An HTML element, or an SVG element if the tag is `svg:name`. Strings among the children become text; `null` and `false` are left out.
export function h(tag, props = {}, ...children) {
  const svg = tag.startsWith('svg:')
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag.slice(4)) : document.createElement(tag)
  for (const [k, v] of Object.entries(props)) {
    if (v === null || v === undefined || v === false) continue
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v)
    else if (k === 'value' || k === 'checked') e[k] = v
    else e.setAttribute(k, v === true ? '' : v)
  }
  e.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false))
  return e
}

// Calls `gone` when the kernel of a view has ended; returns a function that stops listening. Notebooks tell their views of a restart only, but JupyterLab's session reports every end
export function onKernelEnd(model, gone) {
  const session = model.widget_manager?.context?.sessionContext
  const status = (_, now) => { if (['restarting', 'autorestarting', 'terminating', 'dead'].includes(now)) gone() }
  session?.kernelChanged?.connect(gone)
  session?.statusChanged?.connect(status)
  return () => { session?.kernelChanged?.disconnect(gone); session?.statusChanged?.disconnect(status) }
}

// The kernel of a view, in notebooks that give access to it: JupyterLab and its relatives
export const kernelOf = model => model.widget_manager?.context?.sessionContext?.session?.kernel

// Sets traits to the values that Python has given them. In marimo, cells run again only after a front end sets a trait; in other notebooks nothing differs, and nothing is sent
export function echoTraits(model, names) {
  for (const k of names) model.set(k, model.get(k))
  if (names.length) model.save_changes()
}

// Puts the frame of a view into `el`: a place for its content, a line for messages, and `ask`, which calls a Python method and promises the answer.
// An error stays visible, and the frame has the class `spd-stale-QUESTION`, until a question of the same kind is answered.
export function mountView(el, model, name) {
  const body = h('div', { class: 'spd-body' }), note = h('div', { class: 'spd-note', role: 'status' })
  const gone = h('div', { class: 'spd-gone' }, 'The kernel is gone: what is shown stays, but nothing new can be asked. Run the cell again.')
  const ended = 'This view is closed: what is shown stays, but nothing new can be asked. Run the cell again.'
  // Notebooks have keys of their own. Most of them listen where keys bubble to. Jupyter Notebook 7 listens before the view does, and passes over an element that has this attribute itself
  const frame = h('div', { class: `spd spd-${name}`, onkeydown: e => e.stopPropagation(), onfocusin: e => e.target.setAttribute('data-lm-suppress-shortcuts', '') }, gone, body, note)
  el.replaceChildren(frame)
  const unwatch = onKernelEnd(model, () => frame.classList.add('spd-lost'))
  const me = Math.random().toString(36).slice(2), waiting = new Map()
  let count = 0, shownFor = null
  function hear(reply) {
    const w = waiting.get(reply.id)
    if (!w) return // another view's
    waiting.delete(reply.id)
    clearTimeout(w.late)
    const wrong = 'error' in reply
    if (wrong || shownFor === w.what) say(wrong ? reply.error : '', w.what, wrong)
    frame.classList.toggle(`spd-stale-${w.what}`, wrong)
    echoTraits(model, reply.changed || [])
    wrong ? w.reject(new Error(reply.error)) : w.resolve(reply.answer)
  }
  function say(text, what, wrong) {
    shownFor = text ? what : null
    note.textContent = text
    note.classList.toggle('spd-error', wrong)
  }
  function end() {
    if (!model.get('_closed')) return
    gone.textContent = ended
    frame.classList.add('spd-lost')
    for (const w of waiting.values()) { clearTimeout(w.late); w.reject(new Error(ended)) }
    waiting.clear()
  }
  model.on('msg:custom', hear)
  model.on('change:_closed', end)
  end()
  function ask(what, args = {}) {
    return new Promise((resolve, reject) => {
      if (model.get('_closed')) { reject(new Error(ended)); return }
      const id = `${me}-${++count}`
      const late = setTimeout(() => say('Waiting for Python: it is running a cell, or the kernel is gone.', what, false), 3000)
      waiting.set(id, { what, resolve, reject, late })
      model.send({ id, ask: what, args })
    })
  }
  function close() {
    model.off('msg:custom', hear)
    model.off('change:_closed', end)
    unwatch()
    for (const w of waiting.values()) clearTimeout(w.late)
    waiting.clear()
  }
  // Clears the message of a question that no longer matters
  function forget(what) {
    if (shownFor === what) say('', what, false)
    frame.classList.remove(`spd-stale-${what}`)
  }
  return { body, note, ask, forget, close }
}

// Calls `run` one at a time, and skips to the newest arguments; a rejected call has already shown its message
export function latestOnly(run) {
  let busy = false, next = null
  return async function go(...args) {
    if (busy) { next = args; return }
    busy = true
    try { await run(...args) } catch { /* shown by `ask` */ }
    busy = false
    if (next) { const a = next; next = null; go(...a) }
  }
}

// Calls `f` after `ms` milliseconds without another call
export function debounce(f, ms) {
  let timer
  return (...args) => { clearTimeout(timer); timer = setTimeout(f, ms, ...args) }
}

export const colors = ['#3b7fc4', '#e07b1a', '#2a9d6f', '#d1495b', '#8e6bbf', '#2fa8c9', '#b0952a', '#b5679e']
export const shade = v => `rgba(127, 95, 178, ${(.8 * Math.min(Math.max(v || 0, 0), 1)).toFixed(3)})` // an importance, on light and dark

// A number with three significant digits
export function formatNumber(v) {
  if (v === null || v === undefined || Number.isNaN(v)) return '–'
  const a = Math.abs(v)
  return v === 0 ? '0' : a >= 1e6 || a < 1e-3 ? v.toExponential(1) : a >= 1000 ? String(Math.round(v)) : String(Number(v.toPrecision(3)))
}
export const percent = v => v === null || v === undefined ? '–' : v >= .1 ? `${(100 * v).toFixed(0)} %` : v >= .001 ? `${(100 * v).toFixed(1)} %` : v > 0 ? '< 0.1 %' : '0 %'

export const token = (text, props = {}) => h('code', { ...props, class: `spd-token ${props.class || ''}` }, text === '' ? '∅' : text)

// A name such as `model.layers.1.mlp.down_proj:798` in three parts: the part to shorten first, the part to shorten next, and the number at its end, which stays
export const nameParts = text => { const [, a, b, rest, number] = text.match(/^(?:(.*?\.)(?=\d+\.)|(.*\.))?(.*?)(:?\d{1,12})?$/s); return [a || b || '', rest, number || ''] }

// A name in one line, shortened in the middle if it does not fit. The element's text and tooltip are the whole name
export function nameElement(text, props = {}) {
  const [head, rest, number] = nameParts(text)
  const part = (t, others, cls) => t && h('span', { class: cls, style: `max-inline-size: calc(100% - ${others}ch)` }, t)
  return h('code', { title: text, ...props, class: `spd-named ${props.class || ''}` }, part(head, rest.length + number.length, 'spd-cut spd-cut-first'), part(rest, number.length + (head ? 2 : 0), 'spd-cut'), number)
}

// A name in at most `n` characters, for SVG and other places that cannot shorten an element
export function shortenName(text, n) {
  const [head, rest, number] = nameParts(text), room = n - number.length - 1
  if (text.length <= n) return text
  if (rest.length <= room) return `${head.slice(0, room - rest.length)}…${rest}${number}`
  return `${rest.slice(0, Math.max(0, room))}…${number}`
}

// A note about words of a text that the model does not know; `unknown`: [position, word as written]
export function unknownWords(tokens, unknown) {
  if (!unknown?.length) return null
  const words = [...new Set(unknown.map(([, w]) => w.trim()).filter(Boolean))]
  return h('p', { class: 'spd-unknown-words' }, 'Unknown to this model, which reads ', h('code', {}, tokens[unknown[0][0]].trim()), words.length ? [' instead: ', words.map((w, i) => [i ? ', ' : '', h('code', {}, w)])] : ' instead')
}
// Attributes of the token at position `i` if the model does not know it
export function unknownAt(unknown, i) {
  const u = unknown?.find(([at]) => at === i)
  return u ? { class: 'spd-unknown', title: `the model does not know ‘${u[1].trim()}’` } : {}
}

// Rows of [text or element, share, more...] as bars; further shares, such as those after an edit, get a bar of their own
export function bars(rows, { empty = 'nothing', top = 1 } = {}) {
  if (!rows.length) return h('p', { class: 'spd-faint' }, empty)
  return h('div', { class: 'spd-bars' }, rows.map(([text, ...values]) => [
    typeof text === 'string' ? token(text) : text,
    h('div', { class: 'spd-bar-cell' }, values.map((v, i) => h('div', { class: `spd-bar spd-bar-${i}`, style: `width: ${(100 * Math.min(1, Math.max(0, v / top))).toFixed(1)}%` }))),
    h('span', { class: 'spd-num' }, values.map(percent).join(' → ')),
  ]))
}

// Round numbers between `lo` and `hi`; on a log axis powers of ten, or 1, 2, 5 of them where there are few
export function ticks(lo, hi, n = 5, log = false) {
  if (!(hi > lo)) return [lo]
  if (log) {
    const a = Math.floor(Math.log10(lo)), b = Math.ceil(Math.log10(hi)), out = []
    const step = Math.max(1, Math.ceil((b - a) / n))
    for (let e = a; e <= b; e += step) for (const m of b - a <= 2 ? [1, 2, 5] : [1]) out.push(m * 10 ** e)
    return out.filter(t => t >= lo * .999 && t <= hi * 1.001)
  }
  const raw = (hi - lo) / n, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find(m => m * power >= raw) * power
  const out = []
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)))
  return out
}

// A function from numbers to pixels
export function scale(lo, hi, from, to, log = false) {
  const f = log ? Math.log10 : x => x, a = f(lo), b = f(hi)
  return v => b === a ? (from + to) / 2 : from + (to - from) * (f(v) - a) / (b - a)
}

// The smallest and the largest of the values that can be drawn
export function extent(values, log = false) {
  let lo = Infinity, hi = -Infinity
  for (const v of values) if (Number.isFinite(v) && v !== null && (!log || v > 0)) { lo = Math.min(lo, v); hi = Math.max(hi, v) }
  if (lo > hi) return log ? [.1, 1] : [0, 1]
  if (lo < hi) return [lo, hi]
  return log ? [lo / 2, hi * 2] : [lo - (Math.abs(lo) / 2 || .5), hi + (Math.abs(hi) / 2 || .5)]
}

// A chart. `series`: {name, x, y, color, kind: 'line' | 'steps' | 'points', texts (on hover), labels (beside points), picked}. `x`, `y`: {title, log, from, to}. `mark`: a vertical line at this x. `onpick(series, i)` makes points clickable.
export function chart({ series, x = {}, y = {}, width = 460, height = 240, mark = null, onpick = null, label = 'chart' }) {
  const left = 54, right = 12, top = 10, bottom = 42
  const can = (a, b) => Number.isFinite(a) && Number.isFinite(b) && a !== null && b !== null && (!x.log || a > 0) && (!y.log || b > 0)
  const range = (axis, values) => { const [lo, hi] = extent(values, axis.log); return [axis.from ?? lo, axis.to ?? hi] }
  const [x0, x1] = range(x, series.flatMap(s => s.x)), [y0, y1] = range(y, series.flatMap(s => s.y))
  const X = scale(x0, x1, left, width - right, x.log), Y = scale(y0, y1, height - bottom, top, y.log)
  const line = (a, b, c, d, cls) => h('svg:line', { x1: a, y1: b, x2: c, y2: d, class: cls })
  const fit = (text, room) => shortenName(text, Math.floor(room / 6.2)) // characters of 11 pixels are about 6 wide
  const axes = [
    ticks(y0, y1, 5, y.log).map(t => [line(left, Y(t), width - right, Y(t), 'spd-grid'), h('svg:text', { x: left - 6, y: Y(t) + 4, 'text-anchor': 'end' }, formatNumber(t))]),
    ticks(x0, x1, 6, x.log).map(t => [line(X(t), top, X(t), height - bottom, 'spd-grid'), h('svg:text', { x: X(t), y: height - bottom + 16, 'text-anchor': 'middle' }, formatNumber(t))]),
    h('svg:text', { x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle' }, fit(x.title || '', width - left), h('svg:title', {}, x.title || '')),
    h('svg:text', { x: 13, y: (top + height - bottom) / 2, 'text-anchor': 'middle', transform: `rotate(-90 13 ${(top + height - bottom) / 2})` }, fit(y.title || '', height - top), h('svg:title', {}, y.title || '')),
  ]
  const label_ = (at, y, text) => h('svg:text', { x: Math.min(Math.max(at, left + 3.1 * text.length), width - 3.1 * text.length), y, 'text-anchor': 'middle' }, text) // inside the chart, also beside its edges
  const drawn = series.map((s, j) => {
    const color = s.color || colors[j % colors.length], at = s.x.map((_, i) => i).filter(i => can(s.x[i], s.y[i]))
    if (s.kind === 'points') return at.map(i => {
      const pick = () => onpick(s, i)
      return [h('svg:circle', { cx: X(s.x[i]), cy: Y(s.y[i]), r: s.picked === i ? 7 : 4.5, fill: color, 'fill-opacity': s.faint && s.faint[i] ? .4 : .9, class: `spd-point${s.picked === i ? ' spd-picked' : ''}`,
        ...(onpick ? { tabindex: 0, role: 'button', onclick: pick, onkeydown: e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); pick() } } } : {}) },
        h('svg:title', {}, `${s.texts ? s.texts[i] + '\n' : ''}${formatNumber(s.x[i])}, ${formatNumber(s.y[i])}`)),
      s.labels && s.labels[i] ? label_(X(s.x[i]), Y(s.y[i]) - 9, fit(s.labels[i], (width - left) / 2)) : null]
    })
    const d = at.map((i, k) => k === 0 ? `M${X(s.x[i])},${Y(s.y[i])}` : s.kind === 'steps' ? `H${X(s.x[i])}V${Y(s.y[i])}` : `L${X(s.x[i])},${Y(s.y[i])}`).join('')
    return h('svg:path', { d, fill: 'none', stroke: color, 'stroke-width': 1.8 }, s.name ? h('svg:title', {}, s.name) : null)
  })
  const withName = series.filter(s => s.name)
  const legend = withName.length < 2 ? null : h('div', { class: 'spd-legend' }, withName.map(s => h('span', {}, h('i', { style: `background: ${s.color || colors[series.indexOf(s) % colors.length]}` }), s.name)))
  return h('div', { class: 'spd-chart' },
    h('svg:svg', { viewBox: `0 0 ${width} ${height}`, role: onpick ? 'group' : 'img', 'aria-label': label, style: `max-width: ${width}px` }, axes, drawn, mark === null ? null : line(X(mark), top, X(mark), height - bottom, 'spd-mark')), legend)
}
