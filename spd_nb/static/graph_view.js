import { h, bars, debounce, formatNumber, latestOnly, mountView, nameElement, percent, shade, token } from './kit.js'
import { pickedDetail } from './detail.js'
import { boxEdges, boxes, layout, neighbour, normalised, placed, prune } from './graph_math.js'

const HOW = [['without', 'without the pinned'], ['only', 'only the pinned'], ['attacked', 'only the pinned, the rest attacked']]
const WEIGHTS = [['size', 'contribution'], ['node', 'relative to the node it feeds'], ['site', 'relative to the site it feeds']]
const sign = (v, alpha) => v < 0 ? `rgba(224, 123, 26, ${alpha})` : `rgba(59, 127, 196, ${alpha})` // --spd-orange and --spd-blue

// What a page holds of what the model says with some nodes
const saidOf = (model, { nodes, how }) => (model.get('said') || []).find(o => o.how === how && JSON.stringify(o.nodes) === JSON.stringify(nodes))

function answer(model, what, args) {
  if (what === 'arrange') { for (const [k, v] of Object.entries(args)) model.set(k, v); return null }
  if (what === 'pick_node') { model.set('node', args.node); model.set('key', args.node && !args.node.startsWith('/') ? args.node.replace(/@\d+$/, '') : ''); return null }
  if (what === 'says') return saidOf(model, args)?.answer
  const details = model.get('details')
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (what === 'examples') return []
  return what === 'detail' ? structuredClone(details[args.key]) : details[args.key][what]
}

function render({ model, el }) {
  const { body, note, ask, forget, close } = mountView(el, model, 'graph')
  const g = model.get('drawn'), names = g.nodes.name, row = new Map(names.map((n, i) => [n, i])), page = Boolean(model.get('said')) // a page holds some answers
  let arrangement = current(), past = [], future = [], shown = null, size = g.edges.w, at = null, over = null, chosen = new Set()
  const into = names.map(() => []), outOf = names.map(() => [])
  g.edges.s.forEach((s, e) => { outOf[s].push(e); into[g.edges.t[e]].push(e) })

  // A name as people read it: the token of an input or output, the end of a component's name
  const short = i => g.nodes.kind[i] === 1 ? names[i].replace(/@\d+$/, '').replace(/^.*?(?=\d+\.[^:]*:)/, '') : g.nodes.text[i] // from the number of the layer on
  const about = i => `${names[i]}\nat ${g.tokens[g.nodes.position[i]]}, importance ${formatNumber(g.nodes.ci[i])}, activation ${formatNumber(g.nodes.act[i])}, influence ${formatNumber(g.nodes.influence[i])}${g.nodes.kind[i] === 1 && g.nodes.text[i] ? '\n' + g.nodes.text[i] : ''}`

  // The bar of tools
  const slider = (label, name) => {
    const input = h('input', { type: 'range', min: 0, max: 1, step: .005, value: model.get(name), 'aria-label': label, class: `spd-graph-${name}`, oninput: () => { pruneNow(); save() } }), text = h('output', { class: 'spd-num' })
    return { input, text, el: h('label', {}, label, input, text) }
  }
  const nodeShare = slider('influence kept', 'node_share'), edgeShare = slider('of its edges', 'edge_share')
  const weights = h('select', { 'aria-label': 'weight of an edge', class: 'spd-graph-weights', onchange: () => { weigh(); draw(); drawPins() } }, WEIGHTS.map(([v, t]) => h('option', { value: v }, t)))
  const find = h('input', { type: 'search', 'aria-label': 'find nodes', placeholder: 'find a token, label or name', spellcheck: 'false', class: 'spd-graph-find', oninput: () => mark() }), found = h('output', { class: 'spd-num spd-faint' })
  const back = h('button', { class: 'spd-undo', title: 'undo (Ctrl+Z)', onclick: () => step(past, future) }, 'undo'), again = h('button', { class: 'spd-redo', title: 'redo (Ctrl+Shift+Z)', onclick: () => step(future, past) }, 'redo')
  const count = h('div', { class: 'spd-faint spd-graph-count', role: 'status' })

  // The graph itself: edges on two canvases, nodes as buttons above them
  const lines = h('canvas', { class: 'spd-graph-lines' }), bright = h('canvas', { class: 'spd-graph-lines' })
  const nodes = names.map((_, i) => h('button', { class: `spd-node spd-kind-${g.nodes.kind[i]}`, 'data-node': i, tabindex: -1, title: about(i), 'aria-label': about(i).replaceAll('\n', ', '), style: g.nodes.kind[i] === 1 ? `background: ${shade(.2 + .8 * g.nodes.ci[i])}` : null }, g.nodes.kind[i] === 1 ? '' : g.nodes.text[i] === '' ? '∅' : g.nodes.text[i]))
  const siteNames = h('div', { class: 'spd-graph-sites', 'aria-hidden': 'true' })
  const stage = h('div', { class: 'spd-stage', role: 'group', 'aria-label': 'attribution graph', onpointerover: e => hover(e), onpointerleave: () => light(null), onfocusin: e => hover(e), onclick: e => { const i = nodeOf(e); if (i !== null) pick(i) }, ondblclick: e => { const i = nodeOf(e); if (i !== null) togglePin(i) }, onkeydown: keys }, lines, bright, siteNames, nodes)
  const scroll = h('div', { class: 'spd-graph-scroll' }, stage)
  const side = h('div', { class: 'spd-graph-side', 'aria-live': 'polite' })

  // The pinned nodes, and what the model says with them
  const pinLines = h('svg:svg', { class: 'spd-pin-lines', 'aria-hidden': 'true' }), pinBoxes = h('div', { class: 'spd-pin-boxes' }), pins = h('div', { class: 'spd-pins', role: 'group', tabindex: -1, 'aria-label': 'pinned nodes' }, pinLines, pinBoxes)
  const naming = h('input', { type: 'text', 'aria-label': 'name of the group', placeholder: 'name', size: 14, maxlength: 80, spellcheck: 'false', class: 'spd-group-name', onkeydown: e => { if (e.key === 'Enter') group() } })
  const HINT = 'Click boxes to choose them; drag them where you like.', hint = h('span', { class: 'spd-faint', role: 'status' }, HINT)
  const tool = (text, cls, onclick, title) => h('button', { class: cls, onclick, title }, text)
  const tools = h('div', { class: 'spd-row' }, naming, tool('group', 'spd-group', group, 'make one box of the chosen boxes, or rename a group'), tool('ungroup', 'spd-ungroup', ungroup, 'take the chosen groups apart'), tool('unpin', 'spd-unpin', unpin, 'take the chosen boxes out'), tool('pin all that is shown', 'spd-pin-shown', pinShown, 'pin the components that the sliders leave'), hint)
  let how = 'without'
  const hows = h('div', { class: 'spd-row', role: 'group', 'aria-label': 'intervention' }), says = h('div', { class: 'spd-result' })
  const pane = pickedDetail(model, ask, key => show(key))
  const live = model.get('live') || (model.get('said') || []).length > 0
  body.append(
    h('div', { class: 'spd-row' }, nodeShare.el, edgeShare.el, h('label', {}, 'edges by', weights)),
    h('div', { class: 'spd-row' }, find, found, back, again), count, note,
    h('div', { class: 'spd-graph-panes' }, scroll, side),
    h('section', { class: 'spd-pinned' }, h('h3', {}, 'pinned'), tools, pins),
    live ? h('section', {}, h('h3', {}, 'what the model says next'), hows, says) : '',
    pane.el)

  function current() { return structuredClone({ pinned: model.get('pinned'), groups: model.get('groups'), places: model.get('places') }) }
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b)
  const sent = new Set()
  const save = debounce(() => { sent.add(JSON.stringify(arrangement)); ask('arrange', { ...arrangement, node_share: Number(nodeShare.input.value), edge_share: Number(edgeShare.input.value) }).catch(() => {}).finally(() => setTimeout(() => sent.clear(), 1000)) }, 60)
  // A new arrangement of the pinned nodes, which can be undone
  function arrange(next) {
    if (same(next, arrangement)) return
    past.push(arrangement)
    future = []
    arrangement = next
    drawPins()
    save()
  }
  function step(from, to) {
    if (!from.length) return
    to.push(arrangement)
    arrangement = from.pop()
    drawPins()
    save()
  }

  // Which nodes and edges the sliders leave
  function pruneNow() {
    const [a, b] = [nodeShare, edgeShare].map(o => Number(o.input.value))
    nodeShare.text.textContent = `${(100 * a).toFixed(1)} %`
    edgeShare.text.textContent = `${(100 * b).toFixed(1)} %`
    shown = prune(g, a, b)
    const n = shown.nodes.filter((k, i) => k && g.nodes.kind[i] === 1).length, all = g.nodes.kind.filter(k => k === 1).length
    count.textContent = `${n} of ${all} components and ${shown.edges.filter(Boolean).length} of ${g.edges.s.length} edges are shown${g.of[0] > names.length ? `; this view holds the ${names.length} most influential of ${g.of[0]} nodes` : ''}. Darker squares are more important; pale ones are left out by the sliders. Blue edges raise what they feed, and orange ones lower it.`
    draw()
  }
  function weigh() { size = normalised(g, weights.value) }

  function place() {
    at = layout(g, { width: Math.max(0, scroll.clientWidth - 2) })
    stage.style.width = `${at.width}px`
    stage.style.height = `${at.height}px`
    nodes.forEach((e, i) => { e.style.left = `${at.x[i] - at.w[i] / 2}px`; e.style.top = `${at.y[i] - at.h[i] / 2}px`; e.style.width = `${at.w[i]}px`; e.style.height = `${at.h[i]}px` })
    siteNames.replaceChildren(...g.sites.map((s, r) => h('div', { class: 'spd-graph-site', style: `top: ${at.top[r]}px; height: ${at.tall[r]}px` }, h('span', {}, s.replace(/^\//, '')))))
    for (const c of [lines, bright]) { const d = devicePixelRatio || 1; c.width = at.width * d; c.height = at.height * d; c.style.width = `${at.width}px`; c.style.height = `${at.height}px` }
  }
  function pen(canvas) {
    const c = canvas.getContext('2d'), d = devicePixelRatio || 1
    c.setTransform(d, 0, 0, d, 0, 0)
    c.clearRect(0, 0, at.width, at.height)
    return c
  }
  function line(c, e, alpha, width) {
    const s = g.edges.s[e], t = g.edges.t[e], y0 = at.y[s] - at.h[s] / 2, y1 = at.y[t] + at.h[t] / 2, mid = (y0 + y1) / 2
    c.strokeStyle = sign(size[e], alpha)
    c.lineWidth = width
    c.beginPath()
    c.moveTo(at.x[s], y0)
    c.bezierCurveTo(at.x[s], mid, at.x[t], mid, at.x[t], y1)
    c.stroke()
  }
  function draw() {
    const c = pen(lines), on = shown.edges.map((k, e) => k ? e : -1).filter(e => e >= 0), most = Math.max(1e-30, ...on.map(e => Math.abs(size[e]))), room = Math.min(1, 30 / Math.sqrt(on.length + 1))
    for (const e of on.sort((a, b) => Math.abs(size[a]) - Math.abs(size[b]))) { const v = Math.abs(size[e]) / most; line(c, e, (.06 + .6 * room * Math.sqrt(v)).toFixed(3), .5 + 2.5 * v) }
    nodes.forEach((e, i) => e.classList.toggle('spd-out', !shown.nodes[i]))
    mark()
    light(over)
    const first = [...shown.nodes.keys()].filter(i => shown.nodes[i])
    focusable(first.includes(picked()) ? picked() : first.at(-1))
  }
  function focusable(i) { nodes.forEach((e, j) => { e.tabIndex = j === i ? 0 : -1 }) }
  const picked = () => row.get(model.get('node'))
  const nodeOf = e => { const b = e.target.closest?.('.spd-node'); return b && stage.contains(b) ? Number(b.dataset.node) : null }
  function hover(e) { const i = nodeOf(e); if (i !== over) light(i) }
  // Shows the edges of a node; of the picked one while none is pointed at
  let lit = []
  function light(i) {
    over = i
    const node = i ?? picked(), c = pen(bright)
    for (const j of lit) nodes[j].classList.remove('spd-over', 'spd-feeds', 'spd-fed')
    lit = []
    stage.classList.toggle('spd-focused', node !== undefined)
    if (node === undefined) { lists(); return }
    const mine = [...into[node], ...outOf[node]]  .filter(e => shown.edges[e] || !shown.nodes[node]), most = Math.max(1e-30, ...mine.map(e => Math.abs(size[e])))
    for (const e of mine) {
      const v = Math.abs(size[e]) / most, other = g.edges.s[e] === node ? g.edges.t[e] : g.edges.s[e]
      line(c, e, (.25 + .75 * v).toFixed(3), 1 + 3 * v)
      nodes[other].classList.add(g.edges.s[e] === node ? 'spd-fed' : 'spd-feeds')
      lit.push(other)
    }
    nodes[node].classList.add('spd-over')
    lit.push(node)
    lists(node)
  }
  function lists(i) {
    if (i === undefined) { side.replaceChildren(h('p', { class: 'spd-faint' }, 'Point at a node to see what feeds it and what it feeds. Click it to keep it picked, and double-click it to pin it.')); return }
    const rows = (edges, end) => {
      const all = [...edges].sort((a, b) => Math.abs(size[b]) - Math.abs(size[a])), most = Math.abs(size[all[0]] || 1)
      if (!all.length) return h('p', { class: 'spd-faint' }, 'nothing')
      return [h('div', { class: 'spd-edges' }, all.slice(0, 10).map(e => { const j = g.edges[end][e]; return h('button', { class: 'spd-edge', 'data-node': j, title: about(j), onclick: () => pick(j) },
        h('i', { style: `width: ${(100 * Math.abs(size[e]) / most).toFixed(0)}%; background: ${sign(size[e], .3)}` }), g.nodes.kind[j] === 1 ? h('span', {}, nameElement(short(j), { title: null }), ' ', token(g.tokens[g.nodes.position[j]])) : h('span', {}, token(g.nodes.text[j])), h('span', { class: 'spd-num' }, formatNumber(size[e]))) })), ...(all.length > 10 ? [h('p', { class: 'spd-faint' }, `and ${all.length - 10} more`)] : [])]
    }
    const isPinned = arrangement.pinned.includes(names[i])
    side.replaceChildren(
      h('header', {}, g.nodes.kind[i] === 1 ? nameElement(names[i].replace(/@\d+$/, '')) : token(g.nodes.text[i]), h('span', {}, ' at ', token(g.tokens[g.nodes.position[i]]), `, position ${g.nodes.position[i]}`)),
      g.nodes.kind[i] === 1 && g.nodes.text[i] ? h('p', { class: 'spd-label' }, g.nodes.text[i]) : '',
      h('p', { class: 'spd-faint' }, `importance ${formatNumber(g.nodes.ci[i])}, activation ${formatNumber(g.nodes.act[i])}, influence ${formatNumber(g.nodes.influence[i])}`),
      h('button', { class: 'spd-pin', 'aria-pressed': String(isPinned), onclick: () => togglePin(i) }, isPinned ? 'pinned' : 'pin'),
      h('h3', {}, 'fed by'), ...[rows(into[i], 's')].flat(), h('h3', {}, 'feeds'), ...[rows(outOf[i], 't')].flat())
  }
  function mark() {
    const q = find.value.trim().toLowerCase()
    const hits = names.map((n, i) => q && [n, g.nodes.text[i], g.tokens[g.nodes.position[i]]].some(t => t.toLowerCase().includes(q)))
    stage.classList.toggle('spd-searching', Boolean(q))
    nodes.forEach((e, i) => e.classList.toggle('spd-hit', Boolean(hits[i])))
    found.textContent = q ? `${hits.filter((k, i) => k && shown.nodes[i]).length} of the nodes shown, ${hits.filter(Boolean).length} in all` : ''
  }
  function pick(i) { ask('pick_node', { node: i === null ? '' : names[i] }).catch(() => {}) }
  // The most influential node of a component, from its evidence
  function show(key) {
    const all = [...names.keys()].filter(i => names[i].startsWith(`${key}@`))
    if (all.length) pick(all.reduce((a, b) => g.nodes.influence[b] > g.nodes.influence[a] ? b : a))
  }
  function togglePin(i) {
    const name = names[i], on = arrangement.pinned.includes(name)
    arrange(on ? without([name]) : { ...arrangement, pinned: [...arrangement.pinned, name] })
  }
  function without(gone) {
    const groups = Object.fromEntries(Object.entries(arrangement.groups).map(([k, m]) => [k, m.filter(n => !gone.includes(n))]).filter(([, m]) => m.length))
    const pinned = arrangement.pinned.filter(n => !gone.includes(n)), boxesLeft = new Set([...pinned, ...Object.keys(groups)])
    return { pinned, groups, places: Object.fromEntries(Object.entries(arrangement.places).filter(([k]) => boxesLeft.has(k))) }
  }
  function pinShown() {
    const more = names.filter((n, i) => shown.nodes[i] && g.nodes.kind[i] === 1 && !arrangement.pinned.includes(n))
    arrange({ ...arrangement, pinned: [...arrangement.pinned, ...more] })
  }
  const allBoxes = () => boxes(arrangement.pinned, arrangement.groups, row)
  const chosenNodes = () => allBoxes().filter(b => chosen.has(b.name)).flatMap(b => b.nodes.map(i => names[i]))
  function group() {
    const name = naming.value.trim(), members = chosenNodes()
    hint.textContent = !members.length ? 'Choose boxes first: click them.' : !name ? 'Type a name first.' : row.has(name) ? 'A node has this name.' : Object.hasOwn(arrangement.groups, name) && !chosen.has(name) ? 'There is a group of this name already.' : HINT
    if (hint.textContent !== HINT) { naming.focus(); return }
    const rest = Object.fromEntries(Object.entries(arrangement.groups).filter(([k]) => !chosen.has(k)))
    const places = Object.fromEntries(Object.entries(arrangement.places).filter(([k]) => !chosen.has(k)))
    const first = [...chosen].find(k => Object.hasOwn(arrangement.places, k))
    chosen = new Set([name])
    naming.value = ''
    arrange({ pinned: arrangement.pinned, groups: { ...rest, [name]: [...(Object.hasOwn(rest, name) ? rest[name] : []), ...members] }, places: first ? { ...places, [name]: arrangement.places[first] } : places })
  }
  function ungroup() {
    const names_ = Object.keys(arrangement.groups).filter(k => chosen.has(k))
    arrange({ ...arrangement, groups: Object.fromEntries(Object.entries(arrangement.groups).filter(([k]) => !names_.includes(k))), places: Object.fromEntries(Object.entries(arrangement.places).filter(([k]) => !names_.includes(k))) })
  }
  function unpin() { const gone = chosenNodes(); chosen = new Set(); arrange(without(gone)) }

  function drawPins() {
    const all = allBoxes(), width = Math.max(200, pins.clientWidth), columns = Math.max(2, Math.floor(width / 150))
    const where = placed(g, all, arrangement.places, { columns, rowHeight: 58 })
    chosen = new Set([...chosen].filter(k => all.some(b => b.name === k)))
    back.disabled = !past.length
    again.disabled = !future.length
    nodes.forEach((e, i) => e.classList.toggle('spd-node-pinned', arrangement.pinned.includes(names[i])))
    pins.style.height = `${all.length ? where.height + 8 : 40}px`
    const px = k => [where.at[k][0] * width, where.at[k][1]], flows = boxEdges(g, all, size), most = Math.max(1e-30, ...flows.map(([, , v]) => Math.abs(v)))
    pinLines.setAttribute('viewBox', `0 0 ${width} ${where.height + 8}`)
    pinLines.replaceChildren(...flows.sort((a, b) => Math.abs(a[2]) - Math.abs(b[2])).map(([a, b, v]) => { const [x0, y0] = px(a), [x1, y1] = px(b); return h('svg:path', { d: `M${x0},${y0}C${x0},${(y0 + y1) / 2} ${x1},${(y0 + y1) / 2} ${x1},${y1}`, fill: 'none', stroke: sign(v, .25 + .7 * Math.abs(v) / most), 'stroke-width': (.8 + 5 * Math.abs(v) / most).toFixed(2) }, h('svg:title', {}, formatNumber(v))) }))
    const focused = pins.contains(document.activeElement) || pins.contains(pins.getRootNode().activeElement)
    pinBoxes.replaceChildren(...(all.length ? all.map((b, k) => box(b, px(k), width, where.height)) : [h('p', { class: 'spd-faint' }, 'Nothing is pinned yet: double-click a node, or pick one and press p.')]))
    if (focused) pins.focus()
    light(over)
    say()
  }
  function box(b, [x, y], width, height) {
    const i = b.nodes[0], title = b.group ? `${b.name}\n${b.nodes.map(j => names[j]).join('\n')}` : about(i)
    const e = h('button', { class: `spd-box${b.group ? ' spd-box-group' : ''} spd-kind-${g.nodes.kind[i]}`, 'data-box': b.name, 'aria-pressed': String(chosen.has(b.name)), title, style: `left: ${(100 * x / width).toFixed(2)}%; top: ${y}px` },
      h('span', { class: 'spd-box-name' }, b.group ? b.name : g.nodes.kind[i] === 1 ? g.nodes.text[i] || nameElement(short(i), { title: null }) : short(i)),
      h('span', { class: 'spd-faint' }, b.group ? `${b.nodes.length} ${b.nodes.length === 1 ? 'node' : 'nodes'}` : g.nodes.kind[i] === 1 ? [nameElement(short(i), { title: null }), h('span', {}, ` at ${g.tokens[g.nodes.position[i]]}`)] : g.nodes.kind[i] === 0 ? 'input' : 'output'))
    let from = null, to = null
    const move = (x2, y2) => { const half = Math.min(.5, (e.offsetWidth / 2 + 2) / width); return [Math.min(1 - half, Math.max(half, x2 / width)), Math.min(5000, Math.max(24, y2))].map(v => Number(v.toFixed(3))) }
    e.addEventListener('pointerdown', ev => { from = [ev.clientX, ev.clientY]; to = null; e.setPointerCapture(ev.pointerId) })
    e.addEventListener('pointermove', ev => {
      if (!from || !to && Math.hypot(ev.clientX - from[0], ev.clientY - from[1]) < 5) return
      to = move(x + ev.clientX - from[0], y + ev.clientY - from[1])
      e.style.left = `${100 * to[0]}%`
      e.style.top = `${to[1]}px`
    })
    e.addEventListener('pointerup', () => { const t = to; from = null; if (t) arrange({ ...arrangement, places: { ...arrangement.places, [b.name]: t } }) })
    e.addEventListener('click', () => {
      if (to) { to = null; return } // it was dragged
      chosen.has(b.name) ? chosen.delete(b.name) : chosen.add(b.name)
      e.setAttribute('aria-pressed', String(chosen.has(b.name)))
      if (b.group) naming.value = b.name
      if (!b.group) pick(i)
      say()
    })
    e.addEventListener('keydown', ev => {
      const d = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] }[ev.key]
      if (d) { ev.preventDefault(); arrange({ ...arrangement, places: { ...arrangement.places, [b.name]: move(x + d[0], y + d[1]) } }); pinBoxes.querySelector(`[data-box="${CSS.escape(b.name)}"]`)?.focus() }
      else if (ev.key === 'Delete' || ev.key === 'Backspace') { ev.preventDefault(); chosen.add(b.name); unpin() }
    })
    return e
  }
  // The chosen boxes, or all of them if none is chosen; only components can be left out or kept
  const asked = () => (chosen.size ? chosenNodes() : arrangement.pinned).filter(n => g.nodes.kind[row.get(n)] === 1)
  const ask_ = latestOnly(async () => {
    const nodes_ = asked()
    if (!nodes_.length) { forget('says'); says.replaceChildren(h('p', { class: 'spd-faint' }, 'Pin components to see what the model says without them, and with nothing else.')); return }
    if (page && !saidOf(model, { nodes: nodes_, how })) { says.replaceChildren(h('p', { class: 'spd-faint' }, 'This file holds what the model says with the nodes that were pinned; others need Python.')); return }
    const a = await ask('says', { nodes: nodes_, how })
    says.replaceChildren(h('p', {}, `${nodes_.length} ${nodes_.length === 1 ? 'component' : 'components'}${chosen.size ? ' of the chosen boxes' : ''}: probability of the next token, the model → ${HOW.find(([k]) => k === how)[1]}; KL ${formatNumber(a.kl)} nats`), bars(a.next))
  })
  function say() {
    if (!live) return
    hows.replaceChildren(...HOW.map(([k, text]) => h('button', { class: `spd-how-${k}`, 'aria-pressed': String(k === how), onclick: () => { how = k; say() } }, text)))
    ask_()
  }
  function keys(e) {
    const i = nodeOf(e)
    if (i === null) return
    if (e.key.startsWith('Arrow')) {
      e.preventDefault()
      const j = neighbour(g, at, shown.nodes, i, e.key)
      focusable(j)
      nodes[j].focus()
    } else if (e.key === 'p') togglePin(i)
    else if (e.key === 'Escape') { e.target.blur(); over = null; pick(null) }
    else if (e.key === '/') { e.preventDefault(); find.focus() }
  }
  body.addEventListener('keydown', e => {
    if (!(e.ctrlKey || e.metaKey) || e.target.tagName === 'INPUT' && e.target.type !== 'range') return
    if (e.key === 'z' || e.key === 'Z' || e.key === 'y') { e.preventDefault(); e.shiftKey || e.key === 'y' ? step(future, past) : step(past, future) }
  })
  // By Python, or another display; one trait comes after the other, and what this display has sent comes back
  const pushed = debounce(() => {
    const now = current()
    if (same(now, arrangement) || sent.has(JSON.stringify(now))) return
    past.push(arrangement)
    arrangement = now
    drawPins()
  }, 80)
  function moved() {
    for (const [o, k] of [[nodeShare, 'node_share'], [edgeShare, 'edge_share']]) if (Number(o.input.value) !== model.get(k)) { o.input.value = model.get(k); pruneNow() }
  }
  function pickedNow() { if (picked() !== undefined) focusable(picked()); nodes.forEach((e, i) => e.setAttribute('aria-current', String(i === picked()))); light(over) }
  const sized = new ResizeObserver(debounce(() => { if (!el.isConnected || !scroll.clientWidth) return; place(); draw(); drawPins() }, 60))
  const heard = { pinned: pushed, groups: pushed, places: pushed, node_share: moved, edge_share: moved, node: pickedNow, key: pane.show }
  for (const [k, f] of Object.entries(heard)) model.on(`change:${k}`, f)
  place()
  scroll.scrollLeft = at.width
  pruneNow()
  drawPins()
  pickedNow()
  pane.show()
  sized.observe(scroll)
  return () => { close(); sized.disconnect(); for (const [k, f] of Object.entries(heard)) model.off(`change:${k}`, f) }
}

export default { render, answer }
