// A history of merges, of which the cut is chosen by eye
import { h, debounce, formatNumber, latestOnly, mountView, nameElement, percent, scale, token } from './kit.js'
import { pickedDetail } from './detail.js'

// What a history of merges needs to be cut anywhere: each group's parent, its first component, its number of components and where it begins in the order of leaves
export function tree({ pairs, active, order }) {
  const k = order.length, total = k + pairs.length, none = 2 ** 31 - 1
  const parent = new Int32Array(total).fill(none), first = new Int32Array(total), size = new Int32Array(total).fill(1), start = new Int32Array(total)
  order.forEach((c, i) => { first[c] = c; start[c] = i })
  pairs.forEach(([a, b], t) => {
    const g = k + t
    parent[a] = parent[b] = g
    first[g] = Math.min(first[a], first[b])
    size[g] = size[a] + size[b]
    start[g] = Math.min(start[a], start[b])
  })
  return { k, steps: pairs.length, parent, first, size, start, active, order: Int32Array.from(order) }
}

// The groups after some merges, the most frequent first, as `Merges.groups_after`
export function groupsAfter(t, step) {
  const made = t.k + step, out = []
  for (let g = 0; g < made; g++) if (t.parent[g] >= made) out.push(g)
  return out.sort((a, b) => t.active[b] - t.active[a] || t.first[a] - t.first[b])
}

// The components of a group, in the order of the model
export const members = (t, g) => t.order.slice(t.start[g], t.start[g] + t.size[g]).sort()

// The group that a component is in after some merges
export function groupOf(t, step, c) {
  const made = t.k + step
  while (t.parent[c] < made) c = t.parent[c]
  return c
}

// The cut that a key leads to
export function stepped(step, key, steps, shift = false) {
  const by = shift ? 10 : 1, far = Math.max(10, Math.round(steps / 20))
  const to = { ArrowRight: step + by, ArrowUp: step + by, ArrowLeft: step - by, ArrowDown: step - by, PageUp: step + far, PageDown: step - far, Home: 0, End: steps }[key]
  return to === undefined ? null : Math.min(steps, Math.max(0, to))
}

// Bytes of a square matrix from base64
export function bytes(text) {
  const bin = atob(text), out = new Uint8Array(bin.length)
  for (let i = 0; i < bin.length; i++) out[i] = bin.charCodeAt(i)
  return out
}

// A square matrix in `n` by `n` pixels; where several cells share a pixel, the largest is shown
export function pooled(z, k, n) {
  if (n >= k) return z
  const out = new Uint8Array(n * n), at = Int32Array.from({ length: k }, (_, i) => Math.floor(i * n / k))
  for (let r = 0; r < k; r++) for (let c = 0, i = r * k, row = at[r] * n; c < k; c++, i++) if (z[i] > out[row + at[c]]) out[row + at[c]] = z[i]
  return out
}

// Of a square matrix, the rows and columns `from` to `from + span`
export function part(z, k, from, span) {
  if (span === k) return z
  const out = new Uint8Array(span * span)
  for (let r = 0; r < span; r++) out.set(z.subarray((from + r) * k + from, (from + r) * k + from + span), r * span)
  return out
}

// Where a window of `span` of `k` begins, if it is to have this in the middle
export const windowFrom = (middle, span, k) => Math.min(k - span, Math.max(0, Math.round(middle - span / 2)))

// Costs span several powers of ten on both sides of 0: linear near 0, up to about `unit`, and logarithmic beyond
export const bent = unit => v => Math.asinh(v / unit)
export function bentTicks(lo, hi, unit) {
  const powers = [], from = Math.ceil(Math.log10(unit) - 1e-9), to = Math.floor(Math.log10(Math.max(-lo, hi, unit)) + 1e-9)
  for (let e = from; e <= to; e++) powers.push(10 ** e)
  return [...powers.map(v => -v).reverse(), 0, ...powers].filter(v => v >= lo && v <= hi)
}

const strength = v => Math.sqrt(v) // low indices are many, and should be seen
const legend = `linear-gradient(90deg, ${Array.from({ length: 9 }, (_, i) => `rgba(127, 95, 178, ${strength(i / 8).toFixed(3)})`).join(', ')})`

function paint(canvas, z, n) {
  Object.assign(canvas, { width: n, height: n })
  const c = canvas.getContext('2d'), image = c.createImageData(n, n)
  for (let i = 0; i < n * n; i++) {
    image.data[4 * i] = 127
    image.data[4 * i + 1] = 95
    image.data[4 * i + 2] = 178
    image.data[4 * i + 3] = Math.round(255 * strength(z[i] / 255))
  }
  c.putImageData(image, 0, 0)
}

function answer(model, what, args) {
  if (what === 'cut') { model.set('step', args.step); model.set('group', args.group); return null }
  if (what === 'pick') return model.set('key', args.key)
  const details = model.get('details') || {}
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (what === 'examples') return []
  return what === 'detail' ? structuredClone(details[args.key]) : details[args.key][what]
}

const few = 20 // rows of a list, until more are asked for
const many = (n, one, more = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : more}`

function render({ model, el }) {
  const { body, note, ask, close } = mountView(el, model, 'clusters')
  const d = model.get('history'), t = tree(d), k = t.k, steps = t.steps, raw = model.get('cofiring'), z = raw ? bytes(raw) : null
  const keyOf = c => `${d.sites[d.site[c]]}:${d.c[c]}`, hay = d.c.map((_, c) => `${keyOf(c)} ${d.label[c]}`.toLowerCase())
  const rank = new Int32Array(k) // where a component lies in the order of leaves
  t.order.forEach((c, i) => { rank[c] = i })
  let step = model.get('step'), groups = groupsAfter(t, step), picked = null, anchor = null // `picked`: a group of the tree; `anchor`: the component that is followed when the cut moves
  let dragging = false, asked = 0, settled = 0, found = null, rows = few, more = few, frame = 0

  const said = h('p', { class: 'spd-cut-said', 'aria-live': 'polite' }), curve = h('div', { class: 'spd-chart spd-cluster-curve' })
  const jump = (text, to, title) => h('button', { class: 'spd-jump', title, onclick: () => { move(to); commit() } }, text)
  const zero = jump('costs cross 0', d.zero, 'before the first merge that makes the description longer'), least = jump('least description', d.least, 'the shortest description of all cuts')
  const back = h('button', { 'aria-label': 'one merge less', onclick: () => { move(step - 1); commit() } }, '−'), on = h('button', { 'aria-label': 'one merge more', onclick: () => { move(step + 1); commit() } }, '+')
  const search = h('input', { type: 'search', placeholder: 'component or label', 'aria-label': 'search components and labels', oninput: debounce(() => { look(); draw() }, 80) })
  const sort = h('select', { 'aria-label': 'sort groups', onchange: () => { rows = few; draw() } }, ['density', 'size'].map(o => h('option', { value: o }, `by ${o}`)))
  const count = h('span', { class: 'spd-faint' }), list = h('div', { class: 'spd-groups', role: 'listbox', tabindex: 0, 'aria-label': 'groups at the cut', onkeydown: listKey })
  const map = h('div', { class: 'spd-map' }), about = h('div', { class: 'spd-faint spd-map-about' }), one = h('div', { class: 'spd-group' })
  const pane = pickedDetail(model, ask, show)
  const none = steps ? null : h('p', { class: 'spd-faint' }, k === 1 ? 'There is only one component, so nothing was merged.' : 'Nothing was merged: each component is a group by itself.')
  body.append(h('div', { class: 'spd-row' }, h('b', {}, 'cut where'), zero, least, back, on), said, note, h('div', { class: 'spd-cluster-panes' },
    h('div', {}, none || curve, h('h3', {}, 'groups at the cut'), h('div', { class: 'spd-row' }, search, sort, count), h('div', { class: 'spd-group-row spd-faint' }, [['', 'number in `view.groups`'], ['group', 'its most frequent components'], ['size', 'number of components'], ['sites', 'number of sites'], ['density', 'share of positions at which any of its components fires']].map(([x, title]) => h('span', { title }, x))), list),
    h('div', {}, h('h3', {}, 'which components fire together'), z ? [map, about] : h('p', { class: 'spd-faint spd-no-map' }, model.get('no_map')))), one, pane.el)

  // the cut

  let X = null, mark = null, done = null, grip = null
  function drawCurve() {
    if (!steps) return
    const width = Math.min(640, Math.max(280, curve.clientWidth || 460)), height = 210, left = 48, right = 12, top = 8, bottom = 38
    const sizes = d.cost.map(Math.abs).sort((a, b) => a - b), unit = Math.max(sizes[Math.floor(sizes.length / 2)], sizes.at(-1) * 1e-4, 1e-9), f = bent(unit)
    const lo = Math.min(0, ...d.cost), hi = Math.max(0, ...d.cost), Yf = scale(f(lo), f(hi), height - bottom, top), Y = v => hi > lo ? Yf(f(v)) : (height - bottom + top) / 2
    X = scale(0, steps, left, width - right)
    X.inverse = (clientX, r) => Math.min(steps, Math.max(0, Math.round(((clientX - r.left) / r.width * width - left) / (width - right - left) * steps)))
    const line = (a, b, c, e, cls) => h('svg:line', { x1: a, y1: b, x2: c, y2: e, class: cls }), text = (x, y, s, anchor, more) => h('svg:text', { x, y, 'text-anchor': anchor, ...more }, s)
    const ys = bentTicks(lo, hi, unit).sort((a, b) => Math.abs(a) - Math.abs(b)), placed = []
    for (const v of ys) if (placed.every(o => Math.abs(Y(o) - Y(v)) > 13)) placed.push(v)
    const xs = [...new Set([0, .25, .5, .75, 1].map(q => Math.round(q * steps)))]
    const path = d.cost.map((v, i) => `${i ? 'V' : `M${X(0)},`}${Y(v).toFixed(1)}H${X(i + 1).toFixed(1)}`).join('')
    const drawn = cls => h('svg:path', { d: path, class: cls })
    mark = h('svg:line', { y1: top, y2: height - bottom, class: 'spd-cut-line' })
    grip = h('svg:rect', { y: top, width: 10, height: height - bottom - top, rx: 4, class: 'spd-cut-grip' })
    done = h('svg:rect', { x: left, y: top, height: height - bottom - top, class: 'spd-cut-done' })
    const handle = h('svg:g', { class: 'spd-cut-handle', role: 'slider', tabindex: 0, 'aria-label': 'the cut, in merges', 'aria-valuemin': 0, 'aria-valuemax': steps, onkeydown: curveKey }, grip, mark)
    const svg = h('svg:svg', { viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': 'cost of each merge', style: `max-width: ${width}px` },
      placed.map(v => [line(left, Y(v), width - right, Y(v), v === 0 ? 'spd-zero' : 'spd-grid'), text(left - 6, Y(v) + 4, formatNumber(v), 'end')]),
      xs.map((s, i) => text(X(s), height - bottom + 15, (k - s).toLocaleString('en'), i === xs.length - 1 && i ? 'end' : 'middle')),
      text((left + width - right) / 2, height - 5, 'groups left', 'middle'), text(12, (top + height - bottom) / 2, 'bits per position', 'middle', { transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }),
      done, drawn('spd-cost'), handle)
    const had = curve.contains(document.activeElement)
    curve.replaceChildren(h('div', { class: 'spd-faint' }, 'cost of each merge (grey: done). Drag the cut, or use the arrow keys'), svg)
    if (had) handle.focus({ preventScroll: true })
  }
  // the curve may be drawn again while it is dragged, so its frame hears the pointer
  const under = e => X.inverse(e.clientX, curve.querySelector('svg').getBoundingClientRect())
  curve.addEventListener('pointerdown', e => {
    if (e.button || !e.target.closest('svg')) return
    dragging = true
    curve.setPointerCapture(e.pointerId)
    curve.querySelector('[role=slider]').focus({ preventScroll: true })
    move(under(e))
    e.preventDefault()
  })
  curve.addEventListener('pointermove', e => { if (dragging) move(under(e)) })
  for (const end of ['pointerup', 'pointercancel']) curve.addEventListener(end, () => { if (dragging) { dragging = false; commit() } })
  function drawCut() {
    zero.setAttribute('aria-pressed', String(step === d.zero))
    least.setAttribute('aria-pressed', String(step === d.least))
    back.disabled = step === 0
    on.disabled = step === steps
    const several = groups.filter(g => t.size[g] > 1), largest = Math.max(...groups.map(g => t.size[g]))
    said.replaceChildren(h('b', {}, many(groups.length, 'group')), ` after ${many(step, 'merge')} of ${steps.toLocaleString('en')}: ${several.length === groups.length ? 'all' : several.length.toLocaleString('en')} of several components, the largest of ${largest.toLocaleString('en')}. The description takes `, h('b', {}, formatNumber(d.bits[step])), ' bits per position', steps ? ` (${formatNumber(d.bits[0])} without groups, ${formatNumber(d.bits[d.least])} at its least)` : '', '. ', step < steps ? `The next merge costs ${formatNumber(d.cost[step])}.` : '')
    if (!X) return
    const x = X(step), value = `${many(groups.length, 'group')} after ${many(step, 'merge')}`
    mark.setAttribute('x1', x)
    mark.setAttribute('x2', x)
    grip.setAttribute('x', x - 5)
    done.setAttribute('width', Math.max(0, x - X(0)))
    mark.parentNode.setAttribute('aria-valuenow', step)
    mark.parentNode.setAttribute('aria-valuetext', value)
  }
  function curveKey(e) {
    const to = stepped(step, e.key, steps, e.shiftKey)
    if (to === null) return
    e.preventDefault()
    move(to)
    later()
  }
  function move(to) {
    step = Math.min(steps, Math.max(0, to))
    groups = groupsAfter(t, step)
    picked = anchor === null ? null : groupOf(t, step, anchor)
    rows = more = few
    soon()
  }
  function soon() { frame ||= requestAnimationFrame(() => { frame = 0; draw() }) }

  // to Python and back

  const number = () => picked === null ? null : groups.indexOf(picked)
  const send = latestOnly(async () => {
    const mine = asked
    try { await ask('cut', { step, group: number() }) } finally { if (mine === asked) { settled = mine; adopt() } }
  })
  function commit() { asked++; send() }
  const debounced = debounce(commit, 250)
  function later() { asked++; debounced() }
  function adopt() { // what Python holds, once it has answered
    if (settled !== asked || dragging) return
    const s = model.get('step'), g = model.get('group')
    if (s !== step) move(s)
    if (g === number()) return
    picked = g === null ? null : groups[g] ?? null
    anchor = picked === null ? null : members(t, picked)[0]
    draw()
    reveal()
  }
  const told = debounce(adopt, 30) // a cut that Python moves takes its group along, in a message of its own
  function reveal() { // scrolls the list, and not the page, to the picked group
    const e = list.querySelector('[aria-selected=true]'), a = list.getBoundingClientRect(), b = e?.getBoundingClientRect()
    if (e) list.scrollTop += Math.max(0, b.bottom - a.bottom) + Math.min(0, b.top - a.top)
  }
  function pick(g, turn = true) {
    picked = g
    anchor = g === null ? null : members(t, g)[0]
    more = few
    if (turn && g !== null && span < k) centre()
    draw()
    reveal()
    commit()
  }
  function show(key) { ask('pick', { key }).catch(() => {}) }

  // the groups

  function look() {
    const words = search.value.trim().toLowerCase()
    found = words ? hay.map(x => x.includes(words)) : null
    rows = few
  }
  const holds = g => { for (let i = t.start[g], end = i + t.size[g]; i < end; i++) if (found[t.order[i]]) return true; return false }
  const sitesOf = cs => new Set(Array.from(cs, c => d.site[c])).size
  function listed() {
    const out = found ? groups.filter(holds) : groups
    return sort.value === 'size' ? [...out].sort((a, b) => t.size[b] - t.size[a] || t.active[b] - t.active[a] || t.first[a] - t.first[b]) : out
  }
  function drawList() {
    const all = listed(), at = new Map(groups.map((g, i) => [g, i])), most = Math.max(...groups.map(g => t.active[g]), 1)
    while (picked !== null && rows < all.length && all.indexOf(picked) >= rows) rows += few
    count.textContent = found ? `${many(all.length, 'group')} of ${groups.length.toLocaleString('en')}` : ''
    list.replaceChildren(...all.slice(0, rows).map(g => {
      const cs = members(t, g), often = Array.from(cs).sort((a, b) => t.active[b] - t.active[a]).slice(0, 3), labels = [...new Set(often.map(c => d.label[c]).filter(Boolean))]
      return h('div', { class: 'spd-group-row', role: 'option', 'aria-selected': String(g === picked), 'data-group': at.get(g), onclick: () => pick(g) },
        h('span', { class: 'spd-faint spd-num' }, String(at.get(g))), h('span', { class: 'spd-cluster-name', title: Array.from(often, c => [keyOf(c), d.label[c]].filter(Boolean).join(': ')).join('\n') }, labels.length ? labels.join(' · ') : nameElement(keyOf(often[0]))), h('span', { class: 'spd-num' }, t.size[g].toLocaleString('en')), h('span', { class: 'spd-num' }, String(sitesOf(cs))),
        h('span', { class: 'spd-group-density' }, h('i', { style: `width: ${(100 * t.active[g] / most).toFixed(1)}%` }), h('span', { class: 'spd-num' }, percent(t.active[g] / d.n))))
    }), ...(all.length > rows ? [h('button', { class: 'spd-more', onclick: () => { rows += 4 * few; draw() } }, `${(all.length - rows).toLocaleString('en')} more`)] : []), ...(all.length ? [] : [h('p', { class: 'spd-faint' }, 'No group has such a component.')]))
  }
  function listKey(e) {
    const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[e.key]
    if (e.key === 'Escape') { e.preventDefault(); pick(null); return }
    if (by === undefined || e.target !== list) return
    e.preventDefault()
    const all = listed(), i = all.indexOf(picked), to = all[Math.min(all.length - 1, Math.max(0, i < 0 ? 0 : i + by))]
    if (to === undefined) return
    pick(to)
  }
  function drawOne() {
    if (picked === null) { one.replaceChildren(h('p', { class: 'spd-faint' }, 'Pick a group to see its components.')); return }
    const cs = members(t, picked), shown = Array.from(cs).sort((a, b) => t.active[b] - t.active[a] || a - b), evidence = model.get('evidence')
    const tokens = list => list.length ? list.map(x => token(x)) : ''
    const row = c => h('div', { class: `spd-member${keyOf(c) === model.get('key') ? ' spd-member-picked' : ''}${evidence ? '' : ' spd-bare'}` }, h('button', { class: 'spd-member-key', title: keyOf(c), onclick: () => show(keyOf(c)) }, nameElement(keyOf(c), { title: null })), h('span', { class: 'spd-num' }, percent(t.active[c] / d.n)),
      evidence ? [h('span', { class: 'spd-member-label', title: d.label[c] }, d.label[c]), h('span', { class: 'spd-member-tokens' }, tokens(d.fires_on[c])), h('span', { class: 'spd-member-tokens' }, tokens(d.predicts[c]))] : null)
    const head = ['component', 'density', ...(evidence ? ['label', 'fires on', 'predicts'] : [])]
    one.replaceChildren(h('div', { class: 'spd-row' }, h('h3', {}, `group ${number()}: ${many(cs.length, 'component')} at ${many(sitesOf(cs), 'site')}, active at ${percent(t.active[picked] / d.n)} of positions`), h('button', { class: 'spd-let-go', onclick: () => pick(null) }, 'let go')),
      h('div', { class: 'spd-members' }, h('div', { class: `spd-member spd-faint${evidence ? '' : ' spd-bare'}` }, head.map(x => h('span', {}, x))), shown.slice(0, more).map(row), shown.length > more ? h('button', { onclick: () => { more += 4 * few; drawOne() } }, `${(shown.length - more).toLocaleString('en')} more`) : null))
  }
  // the map

  const plane = h('canvas', { class: 'spd-plane', role: 'img', 'aria-label': 'Jaccard index of the firings of each two components, with the groups at the cut as squares' }), over = h('canvas', { class: 'spd-cluster-over' })
  let side = 0, from = 0, span = k // the part of the order that is shown
  const cellAt = e => { const r = over.getBoundingClientRect(); return [[e.clientY, r.top, r.height], [e.clientX, r.left, r.width]].map(([v, start, size]) => from + Math.min(span - 1, Math.max(0, Math.floor((v - start) / size * span)))) }
  const between = (i, j) => i === j ? keyOf(t.order[i]) : `${keyOf(t.order[i])} and ${keyOf(t.order[j])}: Jaccard index ${(z[i * k + j] / 255).toFixed(2)}`
  const hint = 'Each row and each column is a component, in the order of the merges; squares are groups. Click a square to pick its group.'
  const nearer = h('button', { 'aria-label': 'zoom in', title: 'zoom in, to the picked group if there is one', onclick: () => zoom(.5) }, '+'), farther = h('button', { 'aria-label': 'zoom out', onclick: () => zoom(2) }, '−')
  if (z) {
    map.append(h('div', { class: 'spd-stack' }, plane, over), h('div', { class: 'spd-row spd-map-legend' }, h('span', {}, 'Jaccard index 0'), h('i', { style: `background: ${legend}` }), h('span', {}, '1'), farther, nearer))
    about.textContent = hint
    over.addEventListener('pointermove', e => { const [i, j] = cellAt(e), [a, b] = [i, j].map(x => groups.indexOf(groupOf(t, step, t.order[x]))); about.textContent = `${between(i, j)}; ${a === b ? `group ${a}` : `groups ${a} and ${b}`}` })
    over.addEventListener('pointerleave', () => { about.textContent = hint })
    over.addEventListener('click', e => pick(groupOf(t, step, t.order[cellAt(e)[0]]), false))
  }
  function zoom(by) {
    span = Math.round(Math.min(k, Math.max(Math.min(k, 12), span * by)))
    centre()
  }
  function centre() {
    from = windowFrom(picked === null ? from + span / 2 : t.start[picked] + t.size[picked] / 2, span, k)
    layMap()
    drawBorders()
  }
  function layMap() {
    if (!z) return
    nearer.disabled = span <= 12
    farther.disabled = span === k
    side = Math.min(520, map.clientWidth)
    if (side <= 0) return
    const n = Math.min(span, Math.max(1, Math.round(side * devicePixelRatio)))
    paint(plane, pooled(part(z, k, from, span), span, n), n)
    for (const c of [plane, over]) Object.assign(c.style, { width: `${side}px`, height: `${side}px` })
    over.width = over.height = Math.round(side * devicePixelRatio)
  }
  function drawBorders() {
    if (!z || !(side > 0)) return
    const c = over.getContext('2d'), s = over.width / span, square = (g, w, color) => {
      const a = (t.start[g] - from) * s, b = Math.max(t.size[g] * s, 2)
      if (a + b < 0 || a > over.width) return
      c.strokeStyle = c.fillStyle = color
      c.lineWidth = w
      b > 3 ? c.strokeRect(a, a, b, b) : c.fillRect(a, a, b, b)
    }
    c.clearRect(0, 0, over.width, over.height)
    for (const g of groups) if (t.size[g] > 1) square(g, devicePixelRatio, 'rgba(59, 127, 196, .75)')
    if (picked !== null) square(picked, 2.5 * devicePixelRatio, '#e07b1a')
  }

  function draw() { drawCut(); drawList(); drawOne(); drawBorders() }
  function lay() { drawCurve(); layMap(); draw() }
  let laid = 0
  const watch = new ResizeObserver(debounce(() => { if (body.clientWidth !== laid) { laid = body.clientWidth; lay() } }, 40))
  watch.observe(body)
  const keyed = () => { drawOne(); pane.show() }
  model.on('change:step', told)
  model.on('change:group', told)
  model.on('change:key', keyed)
  laid = body.clientWidth
  lay()
  adopt()
  pane.show()
  return () => { watch.disconnect(); cancelAnimationFrame(frame); model.off('change:step', told); model.off('change:group', told); model.off('change:key', keyed); close() }
}

export default { render, answer }
