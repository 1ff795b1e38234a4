import { h, mountView, chart, colors, kernelOf, nameElement, formatNumber } from './kit.js'
// Shows a run while it lasts, from one trait, `data`. Which losses are hidden is each display's own business.

// Seconds as text, such as `2 min 5 s`
export function formatDuration(s) {
  if (s === null || s === undefined) return ''
  if (s < 1) return 'less than 1 s'
  const r = Math.round(s)
  if (r < 60) return `${r} s`
  if (r < 3600) return `${Math.floor(r / 60)} min${r % 60 && r < 600 ? ` ${r % 60} s` : ''}`
  const m = Math.round(r / 60)
  return `${Math.floor(m / 60)} h${m % 60 ? ` ${m % 60} min` : ''}`
}

const whole = n => String(n).replace(/\B(?=(\d{3})+$)/g, ' ')

// Text above the progress bar
export function headline(d) {
  if (d.step === undefined) return { starting: 'Waiting for the first step', stopping: 'Waiting for the first step', finished: 'Finished', stopped: 'Stopped', failed: 'Failed' }[d.state]
  const at = `step ${whole(d.step)} of ${whole(d.steps)}`
  if (d.state === 'finished') return `Finished, ${whole(d.steps)} steps`
  if (d.state === 'stopped') return `Stopped at ${at}`
  if (d.state === 'failed') return `Failed at ${at}`
  const rate = d.rate ? `, ${formatNumber(d.rate)} steps per second` : ''
  return `${d.state === 'stopping' ? 'Stopping, at' : 'Training,'} ${at}${rate}${d.state === 'running' && d.left ? `, ${formatDuration(d.left)} left` : ''}`
}

// Height of a bar for a share of all importances, on a log scale from one in ten thousand to all, since most importances are 0
export const barHeight = share => share > 0 ? Math.max(.04, 1 + Math.log10(share) / 4) : 0

// A curve without axes from 0 to its largest value, as an SVG path
export function sparkPath(values, width, height) {
  const top = Math.max(...values, 1e-9), last = Math.max(1, values.length - 1)
  return values.map((v, i) => `${i ? 'L' : 'M'}${(width * i / last).toFixed(1)},${(height - (height - 2) * v / top - 1).toFixed(1)}`).join('')
}

// Dotted names without their common beginning, and that beginning
export function withoutPrefix(names) {
  const parts = names.map(n => n.split('.'))
  let k = 0
  while (names.length > 1 && parts.every(p => p.length > k + 1 && p[k] === parts[0][k])) k++
  return [parts.map(p => p.slice(k).join('.')), parts.length ? parts[0].slice(0, k).join('.') : '']
}

function bins(shares) {
  const w = 100 / shares.length
  const text = shares.map((v, i) => `${formatNumber(i / shares.length)} to ${formatNumber((i + 1) / shares.length)}: ${formatNumber(100 * v)} %`)
  return h('svg:svg', { viewBox: '0 0 100 30', class: 'spd-bins', preserveAspectRatio: 'none', role: 'img', 'aria-label': `importances: ${text.filter((_, i) => shares[i] > 0).join(', ')}` },
    h('svg:line', { x1: 0, x2: 100, y1: 29.5, y2: 29.5, class: 'spd-grid' }),
    shares.map((v, i) => h('svg:rect', { x: i * w + .4, width: w - .8, y: 29.5 - 29 * barHeight(v), height: 29 * barHeight(v), class: 'spd-bin' }, h('svg:title', {}, text[i]))))
}

function curve(values, label) {
  if (values.length < 2) return null
  return h('svg:svg', { viewBox: '0 0 100 26', class: 'spd-spark', preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    h('svg:path', { d: sparkPath(values, 100, 26), 'vector-effect': 'non-scaling-stroke' }))
}

function sites(d) {
  const [names, above] = withoutPrefix(d.sites.map(s => s.name))
  const total = d.l0.filter(v => v !== null)
  const row = (name, alive, l0, values, hist) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', { class: 'spd-alive' }, alive), h('td', { class: 'spd-used' }, h('span', { class: 'spd-num' }, formatNumber(l0)), curve(values, `in use per position, now ${formatNumber(l0)}`)), h('td', {}, hist))
  return h('table', { class: 'spd-sites' },
    h('thead', {}, h('tr', {}, [above ? `site in ${above}` : 'site', 'alive', 'in use per position', 'importances 0 to 1'].map((t, i) => h('th', { scope: 'col', title: i === 3 ? 'share of all importances, on a log scale from 0.01 % to 100 %' : t }, t)))),
    h('tbody', {},
      d.sites.length > 1 ? row('all sites', h('span', { class: 'spd-num' }, `${d.sites.reduce((n, s) => n + s.alive, 0)} of ${d.sites.reduce((n, s) => n + s.C, 0)}`), total.at(-1), total, null) : null,
      d.sites.map((s, i) => row(nameElement(names[i], { title: s.name }),
        [h('span', { class: 'spd-num' }, `${s.alive} of ${s.C}`), h('div', { class: 'spd-track' }, h('div', { class: 'spd-bar', style: `width: ${(100 * s.alive / s.C).toFixed(1)}%` }))], s.l0, s.curve, bins(s.bins)))))
}

// What `evaluate` measures of the model: each number with its course so far
function measured(d) {
  return (d.measured || []).flatMap(({ name, values }) => [h('span', {}, nameElement(name)), h('span', { class: 'spd-num' }, formatNumber(values.at(-1))), h('span', {}, curve(values.filter(v => v !== null), `${name}, now ${formatNumber(values.at(-1))}`) ?? '')])
}

function render({ model, el }) {
  const { body, ask, close } = mountView(el, model, 'monitor')
  const hidden = new Set(), waiting = []
  let unheard = false
  const title = h('strong', { class: 'spd-num' }), said = h('div', { class: 'spd-said' }), fill = h('div', { class: 'spd-bar' })
  const stop = h('button', { class: 'stop', onclick: press }, 'Stop')
  const bar = h('div', { class: 'spd-progress', role: 'progressbar', 'aria-label': 'steps', 'aria-valuemin': 0 }, fill)
  const legend = h('div', { class: 'spd-losses', role: 'group', 'aria-label': 'losses shown' }), plot = h('div'), table = h('div', { class: 'spd-scroll', tabindex: 0, role: 'region', 'aria-label': 'sites' })
  const numbers = h('div', { class: 'spd-measured' }), own = h('div', { hidden: true }, h('h3', {}, 'Measured'), numbers)
  const panels = h('div', { class: 'spd-panels' }, h('section', {}, h('h3', {}, 'Losses'), legend, plot), h('section', {}, h('h3', {}, 'Components'), table, own))
  body.append(h('div', { class: 'spd-row spd-head' }, title, stop), bar, said, panels)

  // Ask first; a kernel that lets questions wait for the cell is interrupted, as the notebook's own button does, but only while the run is known to be under way
  function press() {
    stop.disabled = true
    stop.textContent = 'Stopping'
    waiting.push(setTimeout(() => { unheard = true; interrupt() }, 400),
      setTimeout(() => { if (!kernelOf(model)) said.textContent = 'Python does not hear this while the cell runs. The stop button of the notebook does the same.' }, 2000))
    ask('stop').then(heard, heard)
  }
  function interrupt() {
    const { state, step } = model.get('data')
    if (!unheard || state !== 'running' || step === undefined) return
    unheard = false
    kernelOf(model)?.interrupt()
  }
  function heard() {
    unheard = false
    while (waiting.length) clearTimeout(waiting.pop())
  }

  function losses(d) {
    const names = Object.keys(d.losses)
    if (names.length !== legend.childElementCount || names.some((n, i) => legend.children[i].dataset.name !== n)) legend.replaceChildren(...names.map((n, i) => h('button', { 'data-name': n, onclick: () => { hidden.has(n) ? hidden.delete(n) : hidden.add(n); draw() } },
      h('i', { style: `background: ${colors[i % colors.length]}` }), nameElement(n), h('span', { class: 'spd-num' }))))
    names.forEach((n, i) => {
      legend.children[i].setAttribute('aria-pressed', !hidden.has(n))
      legend.children[i].lastChild.textContent = formatNumber(d.losses[n].at(-1))
    })
    const series = names.map((n, i) => ({ x: d.x, y: d.losses[n], color: colors[i % colors.length], kind: d.x.length < 2 ? 'points' : 'line' })).filter((_, i) => !hidden.has(names[i]))
    plot.replaceChildren(chart({ series, width: 560, height: 270, x: { title: 'step', from: 0, to: Math.max(1, d.x.at(-1)) }, y: { log: true }, label: `losses by step: ${names.map(n => `${n} ${formatNumber(d.losses[n].at(-1))}`).join(', ')}` }))
  }

  function draw() {
    const d = model.get('data'), over = !['starting', 'running', 'stopping'].includes(d.state)
    title.textContent = headline(d)
    said.textContent = d.note
    said.classList.toggle('spd-error', d.state === 'failed')
    stop.hidden = over || !d.live
    if (d.state === 'stopping' || over) heard()
    interrupt()
    stop.disabled = !over && (stop.disabled || d.state === 'stopping')
    stop.textContent = stop.disabled ? 'Stopping' : 'Stop'
    panels.hidden = bar.hidden = d.step === undefined
    if (d.step === undefined) return
    fill.style.width = `${(100 * d.step / d.steps).toFixed(1)}%`
    bar.dataset.state = d.state
    bar.setAttribute('aria-valuenow', d.step)
    bar.setAttribute('aria-valuemax', d.steps)
    losses(d)
    table.replaceChildren(sites(d))
    numbers.replaceChildren(...measured(d))
    own.hidden = !numbers.childElementCount
  }
  model.on('change:data', draw)
  draw()
  return () => { model.off('change:data', draw); heard(); close() }
}

function answer() { throw new Error('there is no run behind a page') }

export default { render, answer }
