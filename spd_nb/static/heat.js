// A matrix as colours, of which one cell can be picked
import { h, nameElement, mountView, formatNumber, debounce } from './kit.js'

// Base64 of float32
export function numbers(text) {
  const bin = atob(text), bytes = new Uint8Array(bin.length)
  for (let i = 0; i < bin.length; i++) bytes[i] = bin.charCodeAt(i)
  return new Float32Array(bytes.buffer)
}

// 256 colours, red, green, blue of each, evenly through those given as `#rrggbb`
export function ramp(scale) {
  const rgb = scale.map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)))
  return Uint8Array.from({ length: 768 }, (_, j) => {
    const t = Math.floor(j / 3) / 255 * (rgb.length - 1), k = Math.min(Math.floor(t), rgb.length - 2)
    return Math.round(rgb[k][j % 3] + (t - k) * (rgb[k + 1][j % 3] - rgb[k][j % 3]))
  })
}

// The cell that each of `down` by `across` pixels shows: of the cells behind it, the one farthest from `pale`, so that no strong value is lost
export function blocks(z, rows, cols, down, across, pale) {
  const at = new Int32Array(down * across).fill(-1), far = new Float32Array(down * across).fill(-2)
  for (let r = 0; r < rows; r++) {
    const row = Math.floor(r * down / rows) * across
    for (let c = 0; c < cols; c++) {
      const k = row + Math.floor(c * across / cols), i = r * cols + c, f = z[i] === z[i] ? Math.abs(z[i] - pale) : -1
      if (f > far[k]) { far[k] = f; at[k] = i }
    }
  }
  return at
}

// Label every k-th cell, k of 1, 2, 5, 10, ..., when a cell has `step` pixels and a label needs `need`
export function labelStep(step, need) {
  for (let p = 1; ; p *= 10) for (const m of [1, 2, 5]) if (m * p * step >= need) return m * p
}

// Size of a cell in pixels at each zoom level, until cells are large enough to read
export function cellSizes(rows, cols, width) {
  const w = Math.min(44, width / cols), t = Math.min(28, 380 / rows), out = []
  for (let z = 1; ; z *= 2) {
    out.push([w * z, t * z])
    if (w * z >= 12 && t * z >= 12) return out
  }
}

function paint(canvas, at, z, lo, hi, table) {
  const c = canvas.getContext('2d'), image = c.createImageData(canvas.width, canvas.height)
  for (let k = 0; k < at.length; k++) {
    const v = z[at[k]]
    if (v !== v) continue // stays blank
    const t = hi > lo ? Math.round(255 * Math.min(1, Math.max(0, (v - lo) / (hi - lo)))) : 0
    for (let j = 0; j < 3; j++) image.data[4 * k + j] = table[3 * t + j]
    image.data[4 * k + 3] = 255
  }
  c.putImageData(image, 0, 0)
}

function render({ model, el }) {
  const { body, ask, close } = mountView(el, model, 'heat')
  const g = k => model.get(k), [rows, cols] = g('shape'), z = numbers(g('data')), table = ramp(g('scale'))
  const lo = g('zmin'), hi = g('zmax'), pale = g('symmetric') ? 0 : lo, x = g('x'), y = g('y')
  const describe = i => `${g('y_title')} ${y[Math.floor(i / cols)]}, ${g('x_title')} ${x[i % cols]}: ${g('z_title')} ${formatNumber(z[i])}`
  const longest = labels => 6.8 * labels.reduce((n, t) => Math.max(n, [...t].length), 1)
  const tall = Math.min(150, longest(x) + 6)
  let side = 0, zoom = 0, sizes = [[1, 1]], at = [], across = 1, down = 1, cursor = g('cell') ? g('cell')[0] * cols + g('cell')[1] : 0

  const canvas = h('canvas', { 'aria-hidden': 'true' }), over = h('div', { class: 'spd-heat-over' }), picked = h('div', { class: 'spd-heat-picked' })
  const plane = h('div', { class: 'spd-heat-plane', onpointermove: hover, onpointerleave: leave, onclick: e => { hover(e); pick(cursor) } }, canvas, over, picked)
  const left = h('div', { class: 'spd-heat-left' }), below = h('div', { class: 'spd-heat-below' })
  const about = h('div', { class: 'spd-heat-now', 'aria-live': 'polite' }), chosen = h('div', { class: 'spd-heat-chosen' })
  const box = h('div', { class: 'spd-heat-box', tabindex: 0, role: 'application', onkeydown: key, onfocus: () => box.matches(':focus-visible') && show(cursor), onblur: leave,
    'aria-label': `${g('title') || 'Matrix'}: ${rows} rows (${g('y_title')}), ${cols} columns (${g('x_title')}). Arrow keys move, Enter picks, Escape lets go.` }, left, plane, h('div', { class: 'spd-heat-corner' }), below)
  const smaller = h('button', { type: 'button', 'aria-label': 'smaller cells', onclick: () => zoomed(-1) }, '−'), larger = h('button', { type: 'button', 'aria-label': 'larger cells', onclick: () => zoomed(1) }, '+')
  const zoomer = h('span', { class: 'spd-row' }, smaller, larger)
  const bar = h('span', { class: 'spd-heat-bar' }, h('span', {}, g('z_title')), h('span', { class: 'spd-num' }, formatNumber(lo)), h('i', { style: `background: linear-gradient(to right, ${g('scale').join(', ')})` }), h('span', { class: 'spd-num' }, formatNumber(hi)))
  body.replaceChildren(...[g('title') && h('h3', {}, g('title')), h('div', { class: 'spd-row spd-heat-head' }, h('span', { class: 'spd-faint' }, `${g('y_title')} ↓  ${g('x_title')} →`), bar, zoomer), box, about, chosen].filter(Boolean))

  function place(mark, i) { // a frame around a cell, large enough to be seen
    const [w, t] = sizes[zoom], fw = Math.max(w, 7), ft = Math.max(t, 7), cx = (i % cols + .5) * w, cy = (Math.floor(i / cols) + .5) * t
    Object.assign(mark.style, { display: 'block', left: `${cx - fw / 2}px`, top: `${cy - ft / 2}px`, width: `${fw}px`, height: `${ft}px` })
  }
  function show(i) { place(over, i); about.textContent = describe(i) }
  function leave() { over.style.display = 'none'; about.textContent = '' }
  function under(e) {
    const r = canvas.getBoundingClientRect(), n = (v, from, size, k) => Math.min(k - 1, Math.max(0, Math.floor((v - from) / size * k)))
    return at[n(e.clientY, r.top, r.height, down) * across + n(e.clientX, r.left, r.width, across)]
  }
  function hover(e) { const i = under(e); if (i >= 0) { cursor = i; show(i) } }
  function pick(i) { ask('pick', { row: Math.floor(i / cols), column: i % cols }).catch(() => {}) }
  function key(e) {
    const far = e.shiftKey ? 10 : 1, r = Math.floor(cursor / cols), c = cursor % cols
    const to = { ArrowLeft: [r, c - far], ArrowRight: [r, c + far], ArrowUp: [r - far, c], ArrowDown: [r + far, c], Home: [r, 0], End: [r, cols - 1] }[e.key]
    if (e.key === 'Enter' || e.key === ' ') pick(cursor)
    else if (e.key === 'Escape') ask('clear').catch(() => {})
    else if (e.key === '+' || e.key === '-') zoomed(e.key === '+' ? 1 : -1)
    else if (to) {
      cursor = Math.min(rows - 1, Math.max(0, to[0])) * cols + Math.min(cols - 1, Math.max(0, to[1]))
      show(cursor)
      reach(cursor)
    } else return
    e.preventDefault()
  }
  function reach(i) { // scroll a cell into view
    const [w, t] = sizes[zoom], cx = (i % cols) * w, cy = Math.floor(i / cols) * t, seenW = box.clientWidth - side, seenT = box.clientHeight - below.offsetHeight
    if (cx < box.scrollLeft) box.scrollLeft = cx
    else if (cx + w > box.scrollLeft + seenW) box.scrollLeft = cx + w - seenW
    if (cy < box.scrollTop) box.scrollTop = cy
    else if (cy + t > box.scrollTop + seenT) box.scrollTop = cy + t - seenT
  }
  function zoomed(by) {
    const next = Math.min(sizes.length - 1, Math.max(0, zoom + by))
    if (next === zoom) return
    zoom = next
    lay()
    const [w, t] = sizes[zoom]
    box.scrollLeft = (cursor % cols + .5) * w - (box.clientWidth - side) / 2
    box.scrollTop = (Math.floor(cursor / cols) + .5) * t - box.clientHeight / 2
  }
  function lay() {
    side = Math.min(longest(y) + 10, 230, body.clientWidth * .35)
    const room = body.clientWidth - side - 16 // of which 16 for a scroll bar
    if (room <= 0) return // not on the page yet
    sizes = cellSizes(rows, cols, room)
    zoom = Math.min(zoom, sizes.length - 1)
    const [w, t] = sizes[zoom]
    across = Math.max(1, Math.min(cols, Math.round(w * cols)))
    down = Math.max(1, Math.min(rows, Math.round(t * rows)))
    at = blocks(z, rows, cols, down, across, pale)
    Object.assign(canvas, { width: across, height: down })
    Object.assign(plane.style, { width: `${w * cols}px`, height: `${t * rows}px` })
    paint(canvas, at, z, lo, hi, table)
    const flat = labelStep(w, longest(x) + 8), turned = flat > 1 && !x.every((l, i) => l === String(i)), kx = turned ? labelStep(w, 14) : flat, ky = labelStep(t, 13)
    below.replaceChildren(...x.map((l, i) => i % kx ? null : h('span', { style: `left: ${(i + .5) * w}px; max-width: ${Math.max(w * kx, 20)}px`, class: i === 0 && kx > 1 && !turned && 'spd-heat-first' }, nameElement(l))).filter(Boolean))
    below.classList.toggle('spd-heat-turned', turned)
    below.style.height = `${turned ? tall : 17}px`
    left.replaceChildren(...y.map((l, i) => i % ky ? null : h('span', { style: `top: ${(i + .5) * t}px` }, nameElement(l))).filter(Boolean))
    box.style.gridTemplateColumns = `${side}px ${w * cols}px`
    zoomer.style.display = sizes.length > 1 ? '' : 'none'
    smaller.disabled = zoom === 0
    larger.disabled = zoom === sizes.length - 1
    over.style.display = 'none'
    mark()
  }
  function mark() {
    const cell = g('cell')
    if (cell) { const i = cell[0] * cols + cell[1]; cursor = i; place(picked, i) } else picked.style.display = 'none'
    chosen.replaceChildren(...(cell ? [h('b', {}, 'Picked '), describe(cell[0] * cols + cell[1]), ' ', h('button', { type: 'button', onclick: () => { ask('clear').catch(() => {}); box.focus() } }, 'let go')] : [h('span', { class: 'spd-faint' }, 'Click a cell to pick it, or move with the arrow keys and press Enter.')]))
  }
  let laid = 0
  const watch = new ResizeObserver(debounce(() => { if (body.clientWidth !== laid) { laid = body.clientWidth; lay() } }, 40))
  watch.observe(body)
  model.on('change:cell', mark)
  lay()
  mark()
  return () => { watch.disconnect(); model.off('change:cell', mark); close() }
}

function answer(model, what, { row, column }) {
  if (what === 'pick') model.set('cell', [row, column])
  if (what === 'clear') model.set('cell', null)
  return null
}

export default { render, answer }
