import { h, bars, latestOnly, nameElement, percent, shade, formatNumber, token } from './kit.js'

// How strongly to shade each token of an example: by importance or activation, at its own position or, for what a component says, one later
export function tokenShades(example, { by = 'ci', shift = 0 } = {}) {
  const most = Math.max(1e-9, ...example.act.map(Math.abs))
  const values = example.t.map((_, i) => i < shift ? 0 : by === 'ci' ? example.ci[i - shift] : Math.abs(example.act[i - shift]) / most)
  return { values, at: example.at + shift }
}

export function example(e, how, key = '') {
  const { values, at } = tokenShades(e, how)
  return h('div', { class: 'spd-text spd-example' }, e.t.map((t, i) => h('span', { style: values[i] > .02 ? `background: ${shade(values[i])}` : null, class: i === at ? 'spd-here' : null, title: i >= (how.shift || 0) ? `${key} importance ${formatNumber(e.ci[i - (how.shift || 0)])}, activation ${formatNumber(e.act[i - (how.shift || 0)])}` : null }, t)))
}

// Histogram of activations, at all positions and where the component fires, each as a share of its own sum
export function histogram(bins) {
  if (!bins.length) return h('p', { class: 'spd-faint' }, 'It never fires.')
  const sum = k => Math.max(1, bins.reduce((a, b) => a + b[k], 0)), all = sum('sampled'), fired = sum('fired')
  const most = Math.max(...bins.flatMap(b => [b.sampled / all, b.fired / fired])), w = 360 / bins.length
  const bar = (b, i, v, cls) => h('svg:rect', { x: i * w, y: 80 - 78 * v / most, width: Math.max(.5, w - 1), height: 78 * v / most, class: cls })
  const label = (i, v, anchor) => h('svg:text', { x: i * w, y: 94, 'text-anchor': anchor }, formatNumber(v))
  const zero = bins.findIndex(b => b.low === 0)
  return h('div', { class: 'spd-chart' }, h('svg:svg', { viewBox: '0 0 360 98', role: 'img', 'aria-label': 'histogram of activations', style: 'max-width: 420px' },
    bins.map((b, i) => [bar(b, i, b.sampled / all, 'spd-all'), bar(b, i, b.fired / fired, 'spd-fired'), h('svg:rect', { x: i * w, y: 0, width: w, height: 80, fill: 'transparent' }, h('svg:title', {}, `${formatNumber(b.low)} to ${formatNumber(b.high)}: ${percent(b.sampled / all)} of positions, ${percent(b.fired / fired)} of firings`))]),
    label(0, bins[0].low, 'start'), zero > 1 && zero < bins.length - 1 ? label(zero, 0, 'middle') : null, label(bins.length, bins.at(-1).high, 'end')),
  h('div', { class: 'spd-legend' }, h('span', {}, h('i', { class: 'spd-all' }), 'all positions'), h('span', {}, h('i', { class: 'spd-fired' }), 'where it fires')))
}

const twoDigits = v => typeof v === 'number' ? v.toFixed(2) : '–'

// Evidence for one component, in several calls. `onpick(key)` follows a neighbour; in a page `kept` holds the components that can be followed.
export function detail(ask, onpick, kept = null) {
  const el = h('div', { class: 'spd-detail', 'aria-live': 'polite' }, h('p', { class: 'spd-faint' }, 'Pick a component.'))
  const how = { by: 'ci', shift: 0 }
  let shown = ''
  const list = rows => h('div', { class: 'spd-chips' }, rows.map(([t, v]) => token(t, { title: formatNumber(v) })))
  const shares = rows => bars(rows.map(([t, p]) => [t, p]))
  const section = (title, ...content) => h('section', {}, h('h3', {}, title), content)
  const toggle = (texts, get, set) => h('div', { class: 'spd-row', role: 'group' }, texts.map(([value, text]) => h('button', { 'aria-pressed': String(get() === value), onclick: () => set(value) }, text)))
  function examples(d) {
    const box = h('div')
    const draw = () => box.replaceChildren(
      h('div', { class: 'spd-row' }, toggle([[0, 'fires on'], [1, 'says']], () => how.shift, v => { how.shift = v; draw() }), toggle([['ci', 'importance'], ['act', 'activation']], () => how.by, v => { how.by = v; draw() })),
      ...(d.examples.length ? d.examples.map(e => example(e, how, d.key)) : [h('p', { class: 'spd-faint' }, 'It never fires.')]),
      ...(d.examples.length && d.examples.length < d.kept ? [h('button', { onclick: async e => {
        e.target.disabled = true
        try { d.examples.push(...await ask('examples', { key: d.key, start: d.examples.length })) } catch { /* shown by `ask` */ }
        draw()
      } }, `more of ${d.kept}`)] : []))
    draw()
    return box
  }
  const show = latestOnly(async key => {
    if (!key) { shown = ''; el.replaceChildren(h('p', { class: 'spd-faint' }, 'Pick a component.')); return }
    if (key === shown) return
    const d = await ask('detail', { key })
    shown = key
    const lens = h('div'), flows = h('div'), near = h('div', {}, h('p', { class: 'spd-faint' }, '…'))
    el.replaceChildren(
      h('header', {}, h('code', { class: 'spd-key' }, d.key), h('span', {}, ` fires on ${percent(d.density)} of positions (${d.firings.toLocaleString('en')}), activation ${formatNumber(d.mean)} ± ${formatNumber(d.sd)} there`)),
      ...(d.stability ? [h('p', { class: 'spd-faint spd-stability' }, `Other runs: similarity ${twoDigits(d.stability.stability)} with its partners (${twoDigits(d.stability.mixed)} by chance), found in ${Math.round(d.stability.found * d.stability.runs)} of ${d.stability.runs}, by ${d.stability.by}.`)] : []),
      ...(d.input_label || d.output_label ? [h('p', { class: 'spd-label' }, h('b', {}, d.input_label || '–'), ' → ', h('b', {}, d.output_label || '–'), d.label_from ? h('span', { class: 'spd-faint' }, ` (${d.label_from})`) : null)] : []),
      h('div', { class: 'spd-sides' },
        h('div', {}, h('div', { class: 'spd-two' }, section('fires on', shares(d.input)), section('predicts', shares(d.output))), lens, section('activation', histogram(d.bins))),
        h('div', {}, section('where it fires', examples(d)), section('fires together with', near), flows)))
    const [l, n, f] = await Promise.all([ask('lens', { key }).catch(() => null), ask('neighbours', { key }).catch(() => []), ask('flows', { key }).catch(() => null)])
    if (shown !== key) return
    if (l) lens.replaceChildren(h('div', { class: 'spd-two' },
      section('directions by themselves: what fires it', l.reads.length ? list(l.reads) : h('p', { class: 'spd-faint' }, 'It reads what other matrices computed.')),
      section('directions by themselves: what it raises', l.writes.length ? [list(l.writes), h('div', { class: 'spd-faint' }, 'and lowers'), list(l.lowers)] : h('p', { class: 'spd-faint' }, 'Other matrices read what it writes.'))))
    const follow = (o, title, name, value) => { const open = !o.token && (!kept || Object.hasOwn(kept, o.key)); return h(open ? 'button' : 'div', { class: 'spd-near', onclick: () => open && onpick(o.key), title }, name, h('span', { class: 'spd-num' }, value), h('span', { class: 'spd-faint' }, o.label)) }
    near.replaceChildren(...(n.length ? n.map(o => follow(o, `PMI ${formatNumber(o.pmi)} nats, together ${o.firings} times`, nameElement(o.key), percent(o.p_given_this))) : [h('p', { class: 'spd-faint' }, 'Nothing fires with it more than by chance.')]))
    const fed = rows => rows.length ? rows.map(o => follow(o, 'attribution over the corpus', o.token === null ? nameElement(o.key) : token(o.token), formatNumber(o.value))) : h('p', { class: 'spd-faint' }, 'nothing')
    if (f) flows.replaceChildren(section('usually fed by', fed(f.into)), section('usually feeds', fed(f.out_of)))
  })
  return { el, show: key => { if (!key) shown = ''; return show(key) } }
}

// Evidence for the component that a view has picked, or in a page a line that it holds none. `show` follows the view's `key`
export function pickedDetail(model, ask, onpick) {
  const kept = model.get('details'), absent = h('p', { class: 'spd-faint' }), pane = model.get('evidence') ? detail(ask, onpick, kept) : null
  function show() {
    const key = model.get('key'), missing = Boolean(kept && key && !Object.hasOwn(kept, key))
    absent.textContent = missing ? `This file keeps no evidence about ${key}.` : ''
    if (!pane) return
    pane.el.hidden = missing
    if (!missing) pane.show(key)
  }
  return { el: h('div', {}, absent, pane?.el), show }
}
