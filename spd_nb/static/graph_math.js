// Attribution graphs as `GraphView` sends them. `g.nodes`: columns `site` (row of `g.sites`), `position`, `kind` (0 input, 1 component, 2 output), `weight`, `lost`; each node stands before all that it feeds. `g.edges`: columns `s` and `t` (rows of nodes) and `w`, the contribution.

// What each node receives: the absolute contributions of its edges, and what no edge carries
function received(g, on) {
  const total = Float64Array.from(g.nodes.lost)
  g.edges.t.forEach((t, e) => { if (!on || on[e]) total[t] += Math.abs(g.edges.w[e]) })
  return total
}

// The share of each edge in what its target receives
export function shares(g, on = null) {
  const total = received(g, on)
  return g.edges.w.map((w, e) => total[g.edges.t[e]] ? Math.abs(w) / total[g.edges.t[e]] : 0)
}

// The weight of outputs passed down along edges, their own included
export function influences(g, share, on = null) {
  const out = Float64Array.from(g.nodes.weight)
  const order = g.edges.t.map((_, e) => e).filter(e => !on || on[e]).sort((a, b) => g.edges.t[b] - g.edges.t[a])
  for (const e of order) out[g.edges.s[e]] += share[e] * out[g.edges.t[e]]
  return out
}

// The fewest largest of some scores that hold a share of their sum
export function fewest(scores, share) {
  const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b), keep = scores.map(() => false)
  const held = []
  for (const i of order) held.push((held.at(-1) || 0) + scores[i])
  const all = held.at(-1) || 0
  if (!all) return keep
  const n = held.findIndex(v => v >= share * all * (1 - 1e-12))
  for (const i of order.slice(0, n + 1)) keep[i] = true
  return keep
}

// What `Graph.pruned` keeps: bools of nodes and of edges
export function prune(g, nodes, edges) {
  const { s, t } = g.edges, inner = g.nodes.kind.map(k => k === 1)
  const own = [...influences(g, shares(g))].map((v, i) => v - g.nodes.weight[i])
  let keep = fewest(own, nodes).map((k, i) => k || !inner[i])
  const inside = s.map((_, e) => keep[s[e]] && keep[t[e]])
  const share = shares(g, inside), of = influences(g, share, inside)
  const at = s.map((_, e) => e).filter(e => inside[e]), chosen = fewest(at.map(e => share[e] * of[t[e]]), edges)
  const on = s.map(() => false)
  at.forEach((e, k) => { on[e] = chosen[k] })
  for (;;) { // components that nothing feeds, or that feed nothing
    const fed = new Set(), feeds = new Set()
    s.forEach((_, e) => { if (on[e] && keep[s[e]] && keep[t[e]]) { fed.add(t[e]); feeds.add(s[e]) } })
    const dead = keep.map((k, i) => k && inner[i] && !(fed.has(i) && feeds.has(i)))
    if (!dead.some(Boolean)) break
    keep = keep.map((k, i) => k && !dead[i])
  }
  return { nodes: keep, edges: s.map((_, e) => on[e] && keep[s[e]] && keep[t[e]]) }
}

// Edges as they are (`size`), relative to what their target (`node`) or the targets of its site together (`site`) receive: by the root of the sum of squares, as `Graph.normalised`
export function normalised(g, per) {
  const { t, w } = g.edges
  if (per === 'size') return w
  const of = per === 'node' ? t : t.map(i => g.nodes.site[i]), sum = new Map()
  w.forEach((v, e) => sum.set(of[e], (sum.get(of[e]) || 0) + v * v))
  return w.map((v, e) => sum.get(of[e]) ? v / Math.sqrt(sum.get(of[e])) : v)
}

// Where everything stands: sites from the bottom to the top, positions from left to right. A node that is alone at its place in the row of inputs, and an output, is a label and not a square
export function layout(g, { size = 11, gap = 2, width = 0 } = {}) {
  const n = g.nodes.site.length, step = size + gap, P = g.tokens.length, R = g.sites.length
  const cells = Array.from({ length: R }, () => Array.from({ length: P }, () => []))
  for (let i = 0; i < n; i++) cells[g.nodes.site[i]][g.nodes.position[i]].push(i)
  const kindOf = r => cells[r].flat().map(i => g.nodes.kind[i])[0] ?? 1
  const labels = cells.map((row, r) => kindOf(r) === 2 || kindOf(r) === 0 && row.every(c => c.length < 2))
  const across = g.tokens.map((_, t) => Math.min(6, Math.max(1, ...cells.map((row, r) => labels[r] ? 1 : Math.ceil(row[t].length / 3)))))
  const textWidth = i => Math.min(110, 7 * [...g.nodes.text[i]].length + 12)
  const wide = g.tokens.map((_, t) => Math.max(across[t] * step + 2 * gap, ...cells.flatMap((row, r) => labels[r] ? row[t].map(textWidth) : []), 18))
  const spare = Math.max(0, width - wide.reduce((a, b) => a + b, 0)) / P
  const left = [0]
  for (const w of wide) left.push(left.at(-1) + w + spare)
  const lines = cells.map((row, r) => Math.max(1, ...row.map((c, t) => labels[r] ? c.length : Math.ceil(c.length / across[t]))))
  const tall = lines.map((l, r) => 13 + l * (labels[r] ? 20 : step) + gap), height = tall.reduce((a, b) => a + b, 0)
  const top = Array(R)
  for (let r = R - 1, y = 0; r >= 0; r--) { top[r] = y; y += tall[r] }
  const x = new Float64Array(n), y = new Float64Array(n), w = new Float64Array(n), h = new Float64Array(n)
  for (let r = 0; r < R; r++) for (let t = 0; t < P; t++) cells[r][t].forEach((i, k) => {
    const mid = (left[t] + left[t + 1]) / 2, line = labels[r] ? k : Math.floor(k / across[t]), inLine = labels[r] ? 1 : Math.min(across[t], cells[r][t].length - line * across[t])
    w[i] = labels[r] ? textWidth(i) : size
    h[i] = labels[r] ? 17 : size
    x[i] = labels[r] ? mid : mid + (k - line * across[t] - (inLine - 1) / 2) * step
    y[i] = top[r] + 13 + line * (labels[r] ? 20 : step) + h[i] / 2
  })
  return { x, y, w, h, left, top, tall, labels, width: left.at(-1), height }
}

// The next of some nodes in a direction: in its row, or in the nearest row that has one
export function neighbour(g, at, shown, i, key) {
  const open = [...at.x.keys()].filter(j => shown[j] && j !== i)
  const across = key === 'ArrowLeft' || key === 'ArrowRight', ahead = key === 'ArrowRight' || key === 'ArrowDown' ? 1 : -1
  const same = j => g.nodes.site[j] === g.nodes.site[i]
  const far = j => across ? ahead * (at.x[j] - at.x[i]) || ahead * (at.y[j] - at.y[i]) * 1e-3 : ahead * (at.y[j] - at.y[i])
  const ok = open.filter(j => same(j) === across && far(j) > 0)
  const cost = j => across ? far(j) + Math.abs(at.y[j] - at.y[i]) * 1e-3 : far(j) * 1e4 + Math.abs(at.x[j] - at.x[i])
  return ok.length ? ok.reduce((a, b) => cost(b) < cost(a) ? b : a) : i
}

// Boxes of the pinned nodes: named groups of them, and each of the others by itself. `names`: name of each node
export function boxes(pinned, groups, row) {
  const inGroup = new Set(Object.values(groups).flat())
  const pinnedSet = new Set(pinned)
  const made = Object.entries(groups).map(([name, members]) => ({ name, group: true, nodes: members.filter(m => pinnedSet.has(m)).map(m => row.get(m)) })).filter(b => b.nodes.length)
  return [...made, ...pinned.filter(p => !inGroup.has(p)).map(p => ({ name: p, group: false, nodes: [row.get(p)] }))]
}

// The sum of the edges between boxes, as [from, to, weight]
export function boxEdges(g, all, w) {
  const of = new Map(all.flatMap((b, k) => b.nodes.map(i => [i, k]))), sum = new Map()
  g.edges.s.forEach((s, e) => {
    const a = of.get(s), b = of.get(g.edges.t[e])
    if (a !== undefined && b !== undefined && a !== b) sum.set(`${a} ${b}`, (sum.get(`${a} ${b}`) || 0) + w[e])
  })
  return [...sum].map(([k, v]) => [...k.split(' ').map(Number), v])
}

// How far to the right the boxes of each position stand, between 0 and 1: as in the prompt, with more room where there is more influence
export function spread(g) {
  const P = g.tokens.length, own = Array(P).fill(1e-9)
  g.nodes.position.forEach((t, i) => { if (g.nodes.kind[i] === 1) own[t] += g.nodes.influence[i] })
  const all = own.reduce((a, b) => a + b, 0)
  let before = 0
  return own.map((v, t) => { const x = (before + v / 2) / all; before += v; return .5 * x + .5 * (P > 1 ? t / (P - 1) : .5) })
}

// Where boxes stand that nobody has moved, as [x between 0 and 1, y in pixels]: rows by site, and in a row the free column that is nearest to the position. `moved`: name to such a place. The first boxes choose first, so that further ones move none of their row
export function placed(g, all, moved, { columns = 6, rowHeight = 54 } = {}) {
  const site = b => Math.max(...b.nodes.map(i => g.nodes.site[i])), x = spread(g)
  const mean = b => b.nodes.reduce((a, i) => a + x[g.nodes.position[i]], 0) / b.nodes.length
  const free = all.map((_, k) => k).filter(k => !Object.hasOwn(moved, all[k].name)), out = all.map(b => moved[b.name])
  let y = 0
  for (const r of [...new Set(free.map(k => site(all[k])))].sort((a, b) => b - a)) {
    const taken = new Set()
    for (const k of free) {
      if (site(all[k]) !== r) continue
      const want = (columns - 1) * mean(all[k])
      const open = Array.from({ length: columns * (taken.size + 1) }, (_, slot) => slot).filter(slot => !taken.has(slot))
      const cost = slot => Math.abs(slot % columns - want) + columns * Math.floor(slot / columns)
      const slot = open.reduce((a, b) => cost(b) < cost(a) ? b : a)
      taken.add(slot)
      out[k] = [(slot % columns + .5) / columns, y + (Math.floor(slot / columns) + .5) * rowHeight]
    }
    y += rowHeight * (1 + Math.floor(Math.max(...taken) / columns))
  }
  return { at: out, height: Math.max(rowHeight, y, ...out.map(o => o[1] + rowHeight / 2)) }
}
