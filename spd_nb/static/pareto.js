// Points, their fronts, and the row of a table behind each
import { h, mountView, chart, extent, scale, formatNumber, debounce } from './kit.js'

// A front as a stepped line: between two of its points the earlier one is still the best
export function corners(x, y, high) {
  const out = { x: [], y: [] }
  x.forEach((v, i) => {
    if (i) { out.x.push(high ? x[i - 1] : v); out.y.push(high ? y[i] : y[i - 1]) }
    out.x.push(v)
    out.y.push(y[i])
  })
  return out
}

// Index of the next point in the direction of an arrow key, in the order along that axis; `points` are [x, y]
export function nextPoint(points, i, key) {
  const axis = key === 'ArrowLeft' || key === 'ArrowRight' ? 0 : 1, by = key === 'ArrowRight' || key === 'ArrowUp' ? 1 : -1
  const order = points.map((_, j) => j).sort((a, b) => points[a][axis] - points[b][axis] || a - b)
  return order[Math.min(order.length - 1, Math.max(0, order.indexOf(i) + by))]
}

// A range a little wider than the values, so that no point lies on the edge
export function paddedRange(values, log) {
  const [lo, hi] = extent(values, log), back = scale(0, 1, log ? Math.log(lo) : lo, log ? Math.log(hi) : hi)
  return [-.04, 1.04].map(t => log ? Math.exp(back(t)) : back(t))
}

// Removes each text that overlaps an earlier one; hovering still shows it
function removeOverlaps(texts) {
  const kept = []
  for (const t of texts) {
    const a = t.getBoundingClientRect()
    if (kept.some(b => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)) t.remove()
    else kept.push(a)
  }
}

function render({ model, el }) {
  const { body, ask, close } = mountView(el, model, 'pareto')
  const g = k => model.get(k), groups = g('groups'), where = groups.flatMap(s => s.rows), points = groups.flatMap(s => s.x.map((v, i) => [v, s.y[i]]))
  const plot = h('div', { class: 'spd-pareto-plot', onkeydown: key }), side = h('div', { class: 'spd-pareto-row', 'aria-live': 'polite' })
  body.replaceChildren(...[g('title') && h('h3', {}, g('title')), h('div', { class: 'spd-pareto-parts' }, plot, side)].filter(Boolean))
  const axis = (j, log) => { const [from, to] = paddedRange(points.map(p => p[j]), log); return { from, to, log } }
  const dots = () => [...plot.querySelectorAll('.spd-point')]
  const pick = row => ask('pick', { row }).catch(() => {})

  function key(e) {
    const all = dots(), i = all.indexOf(e.target)
    if (e.key === 'Escape') ask('clear').catch(() => {})
    else if (i >= 0 && /^Arrow/.test(e.key)) reach(all, nextPoint(points, i, e.key)).focus()
    else if (e.key !== 'Enter' && e.key !== ' ') return
    e.preventDefault()
  }
  function reach(all, i) { // one stop of the tab key for all points
    all.forEach((d, j) => d.setAttribute('tabindex', j === i ? 0 : -1))
    return all[i]
  }
  function draw() {
    const held = dots().indexOf(plot.getRootNode().activeElement), width = Math.min(760, plot.clientWidth || 460)
    plot.replaceChildren(chart({
      series: groups.flatMap(s => [
        { ...corners(s.front.map(i => s.x[i]), s.front.map(i => s.y[i]), g('x_better') === 'high'), color: s.color, kind: 'line' },
        { name: s.name, x: s.x, y: s.y, color: s.color, kind: 'points', rows: s.rows, faint: s.x.map((_, i) => !s.front.includes(i)), texts: s.texts, labels: s.texts.map((t, i) => s.front.includes(i) ? t : ''), picked: s.rows.indexOf(g('row')) },
      ]),
      x: { title: g('x_title'), ...axis(0, g('log_x')) }, y: { title: g('y_title'), ...axis(1, g('log_y')) }, width, height: Math.max(260, Math.round(width * .55)), onpick: (s, i) => pick(s.rows[i]), label: g('title') || `${g('y_title')} against ${g('x_title')}`,
    }))
    removeOverlaps(plot.querySelectorAll('.spd-point + text'))
    const all = dots(), dot = reach(all, held >= 0 ? held : Math.max(0, where.indexOf(g('row'))))
    if (held >= 0) dot.focus()
    show()
  }
  function show() {
    const row = g('row'), values = row === null ? null : g('table')[row]
    side.replaceChildren(values ? h('table', {}, h('caption', {}, `row ${row}`, where.includes(row) ? '' : ', not drawn', ' ', h('button', { type: 'button', onclick: () => ask('clear').catch(() => {}) }, 'let go')),
      h('tbody', {}, g('columns').map((c, i) => h('tr', {}, h('th', { scope: 'row' }, c), h('td', {}, typeof values[i] === 'number' || values[i] === null ? formatNumber(values[i]) : String(values[i]))))))
      : h('p', { class: 'spd-faint' }, 'Click a point for its row, or tab to the points, move with the arrow keys and press Enter.'))
  }
  let drawn = 0
  const watch = new ResizeObserver(debounce(() => { if (body.clientWidth !== drawn) { drawn = body.clientWidth; draw() } }, 40))
  watch.observe(body)
  model.on('change:row', draw)
  draw()
  return () => { watch.disconnect(); model.off('change:row', draw); close() }
}

function answer(model, what, { row }) {
  if (what === 'pick') model.set('row', row)
  if (what === 'clear') model.set('row', null)
  return null
}

export default { render, answer }
