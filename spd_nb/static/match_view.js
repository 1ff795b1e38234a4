// Two runs side by side: each component of one beside its partner in the other
import { h, debounce, formatNumber, latestOnly, mountView, nameElement, percent, scale, ticks, token } from './kit.js'
import { pickedDetail } from './detail.js'

// Numbers of the components that pass the filters, in order, as `MatchView.pairs`; `hay`: what is searched, in lower case
export function listed(d, hay, { sort, site, search }) {
  const words = search.trim().toLowerCase(), s = d.sites.indexOf(site), low = v => v ?? -Infinity
  const some = d.c.map((_, i) => i).filter(i => (!site || d.site[i] === s) && hay[i].includes(words))
  const by = (a, b, values) => low(values[a]) === low(values[b]) ? 0 : low(values[b]) - low(values[a])
  if (sort === 'density') return some.sort((a, b) => by(a, b, d.density) || a - b)
  return some.sort((a, b) => (sort === 'site' ? d.site[a] - d.site[b] : 0) || by(a, b, d.similarity) || a - b)
}

// What is searched of each component: keys and labels of both runs
export const searched = d => d.c.map((c, i) => [keyOf(d, i), partnerOf(d, i), d.label[i], d.partner_label[i]].join('\n').toLowerCase())
export const keyOf = (d, i) => `${d.sites[d.site[i]]}:${d.c[i]}`
export const partnerOf = (d, i) => d.partner[i] < 0 ? '' : `${d.sites[d.site[i]]}:${d.partner[i]}`

// The list with a heading above each site, written as -1 - site
export function withHeadings(d, rows) {
  return rows.flatMap((i, n) => n && d.site[rows[n - 1]] === d.site[i] ? [i] : [-1 - d.site[i], i])
}

// How many values reach a threshold
export const reaching = (values, least) => values.reduce((n, v) => n + (v !== null && v >= least), 0)

// Numbers of values in `n` equal parts of 0 to 1; what is below 0 counts in the first
export function bins(values, n) {
  const out = new Array(n).fill(0)
  for (const v of values) if (v !== null) out[Math.min(n - 1, Math.max(0, Math.floor(v * n + 1e-9)))]++
  return out
}

// The row that a key leads to from row `at` (-1 for none) of `rows`, in which numbers below 0 are headings; -1 if there is none
export function moved(rows, at, key) {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[key], pairs = rows.map((r, i) => r < 0 ? -1 : i).filter(i => i >= 0)
  if (step === undefined || !pairs.length) return -1
  const from = pairs.indexOf(at)
  return pairs[Math.min(pairs.length - 1, Math.max(0, from < 0 ? (step === Infinity ? step : 0) : from + step))]
}

// Values that change here at once and in Python a little later: `set` changes some, and calls `tell` with all of them. What Python holds is taken over when it has answered the last change
export function followed(model, names, tell, changed, wait = 150) {
  const now = Object.fromEntries(names.map(k => [k, model.get(k)]))
  let asked = 0, settled = 0
  function adopt() {
    if (asked !== settled || names.every(k => now[k] === model.get(k))) return
    for (const k of names) now[k] = model.get(k)
    changed(true)
  }
  const send = latestOnly(async () => {
    const mine = asked
    try { await tell({ ...now }) } finally { if (mine === asked) { settled = mine; adopt() } }
  }), later = debounce(send, wait)
  function set(more, soon = true) {
    Object.assign(now, more)
    asked++
    soon ? send() : later()
    changed(false)
  }
  return { now, set, adopt }
}

function answer(model, what, args) {
  if (what === 'arrange') { for (const k in args) model.set(k, args[k]); return null }
  if (what === 'pick') return model.set('key', args.key)
  const of = what === 'of_partner', details = model.get(of ? 'partner_details' : 'details') || {}, asked = of ? args.what : what
  if (!Object.hasOwn(details, args.key)) throw new Error(`${args.key} is not in this file`)
  if (asked === 'examples') return []
  return asked === 'detail' ? structuredClone(details[args.key]) : details[args.key][asked]
}

const many = (n, one, more = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : more}`
const level = v => Math.abs(v * 100 - Math.round(v * 100)) < 1e-9 ? v.toFixed(2) : formatNumber(v)
// Cut and not rounded, so that what reads 0.90 is above a threshold of 0.90
export const similarity = v => v === null ? '–' : (Math.floor(v * 100 + 1e-4) / 100).toFixed(2).replace('-', '−')

function render({ model, el }) {
  const { body, note, ask, close } = mountView(el, model, 'match')
  const d = model.get('components'), hay = searched(d), [here, there] = model.get('names'), n = d.c.length
  const number = new Map(d.c.map((_, i) => [keyOf(d, i), i])), owner = new Map(d.c.map((_, i) => [partnerOf(d, i), i]).filter(([k]) => k))
  const evidence = { left: model.get('evidence'), right: model.get('partner_evidence') }
  const inSite = d.sites.map((_, s) => d.c.map((_, i) => i).filter(i => d.site[i] === s)), all = d.c.map((_, i) => i)
  const of = (name, some) => some.map(i => d[name][i]), compared = some => some.filter(i => d.similarity[i] !== null)
  let rows = [], tall = 28

  const picked = followed(model, ['key'], now => ask('pick', now), () => { mark(); reveal(); drawPair() })
  const how = followed(model, ['least', 'sort', 'site', 'search'], now => ask('arrange', now), pushed => { if (pushed) fill(); refresh(pushed) })
  const current = () => number.get(picked.now.key) ?? -1
  const pick = key => { if (key !== picked.now.key) picked.set({ key }) }

  // the threshold

  const slider = h('input', { type: 'range', min: 0, max: 1, step: .01, class: 'spd-least', 'aria-label': 'least similarity', oninput: () => how.set({ least: Number(slider.value) }, false) })
  const said = h('p', { class: 'spd-match-said', 'aria-live': 'polite' }), drawn = h('div', { class: 'spd-chart spd-match-drawn' }), bySite = h('div', { class: 'spd-match-sites', role: 'group', 'aria-label': 'show one site' })
  function drawSaid() {
    const { least, site } = how.now, some = compared(site ? inSite[d.sites.indexOf(site)] ?? [] : all)
    said.replaceChildren(h('b', {}, `${reaching(of('similarity', some), least).toLocaleString('en')} of ${many(some.length, 'component')}`), `${site ? ' of this site' : ''} ${some.length === 1 ? 'has' : 'have'} a partner of ${level(least)} or more (${reaching(of('mixed', some), least).toLocaleString('en')} after mixing).`)
    slider.setAttribute('aria-valuetext', `${level(least)}: ${said.textContent}`)
  }
  function drawHistogram() {
    const { least, site } = how.now, some = site ? inSite[d.sites.indexOf(site)] ?? [] : all, parts = 25
    const width = 440, left = 44, right = 8, panel = 66, gap = 12, top = 4, X = scale(0, 1, left, width - right)
    const counts = ['similarity', 'mixed'].map(k => bins(of(k, some), parts)), most = Math.max(1, ...counts.flat()), bottom = top + 2 * panel + gap
    const text = (x, y, s, anchor, more) => h('svg:text', { x, y, 'text-anchor': anchor, ...more }, s), line = (a, b, c, e, cls) => h('svg:line', { x1: a, y1: b, x2: c, y2: e, class: cls })
    const words = ['with their partners', 'after mixing']
    drawn.replaceChildren(h('svg:svg', { viewBox: `0 0 ${width} ${bottom + 34}`, role: 'img', 'aria-label': `numbers of components by similarity, with their partners and after mixing`, style: `max-width: ${width}px` },
      counts.map((list, j) => {
        const base = top + panel + j * (panel + gap), Y = scale(0, most, base, base - panel)
        return [line(left, base, width - right, base, 'spd-grid'), ticks(0, most, 2).filter(v => v && Number.isInteger(v)).map(v => [line(left, Y(v), width - right, Y(v), 'spd-grid'), text(left - 6, Y(v) + 4, v.toLocaleString('en'), 'end')]), text(left - 6, base + 4, '0', 'end'),
          list.map((v, i) => h('svg:rect', { x: X(i / parts), y: Y(v), width: X(1 / parts) - X(0) - 1, height: base - Y(v), class: j ? 'spd-all' : 'spd-fired' }, h('svg:title', {}, `${words[j]}: ${many(v, 'component')} ${i ? `from ${(i / parts).toFixed(2)}` : 'below'} ${i ? 'to ' : ''}${((i + 1) / parts).toFixed(2)}`)))]
      }),
      ticks(0, 1, 5).map(v => text(X(v), bottom + 15, formatNumber(v), 'middle')), text((left + width - right) / 2, bottom + 31, 'similarity', 'middle'), text(12, (top + bottom) / 2, 'components', 'middle', { transform: `rotate(-90 12 ${(top + bottom) / 2})` }),
      line(X(least), top, X(least), bottom, 'spd-match-line')),
    h('div', { class: 'spd-legend' }, ['spd-fired', 'spd-all'].map((cls, j) => h('span', {}, h('i', { class: cls }), j ? 'after mixing: what chance gives' : words[j]))))
  }
  function siteRow(name, every) {
    const { least, site } = how.now, some = compared(every), m = Math.max(1, some.length), own = reaching(of('similarity', some), least), control = reaching(of('mixed', some), least), where = name || 'all sites'
    return h('button', { class: 'spd-match-site', 'aria-pressed': String(site === name), 'data-site': name, title: `${where}: ${own.toLocaleString('en')} of ${many(some.length, 'component')} at ${level(least)} or more, ${control.toLocaleString('en')} after mixing`, onclick: () => { how.set({ site: site === name ? '' : name }); bySite.querySelector('[aria-pressed=true]')?.focus({ preventScroll: true }) } },
      name ? nameElement(name, { title: null }) : where, h('span', { class: 'spd-match-share' }, h('i', { class: 'spd-fired', style: `width: ${(100 * own / m).toFixed(1)}%` }), h('i', { class: 'spd-all', style: `width: ${(100 * control / m).toFixed(1)}%` })), h('span', { class: 'spd-num' }, `${own.toLocaleString('en')} of ${some.length.toLocaleString('en')}`))
  }
  function drawSites() { const at = bySite.scrollTop; bySite.replaceChildren(siteRow('', all), ...d.sites.map((s, i) => siteRow(s, inSite[i]))); bySite.scrollTop = at }

  // the pairs

  const search = h('input', { type: 'search', placeholder: 'component or label', 'aria-label': 'search components and labels of both runs', maxlength: 400, oninput: () => how.set({ search: search.value }, false) })
  const sort = h('select', { 'aria-label': 'sort pairs', onchange: () => how.set({ sort: sort.value }) }, ['similarity', 'site', ...(d.density ? ['density'] : [])].map(o => h('option', { value: o }, `by ${o}`)))
  const count = h('span', { class: 'spd-faint', 'aria-live': 'polite' }), sheet = h('div', { class: 'spd-match-sheet' }), head = h('div', { class: 'spd-match-row spd-match-head spd-faint', 'aria-hidden': 'true' }, h('span', {}, here), h('span', {}, 'similarity'), h('span', {}, there))
  const list = h('div', { class: 'spd-match-list', role: 'listbox', tabindex: 0, 'aria-label': 'pairs of components', onscroll: () => drawRows(true), onkeydown: listKey }, sheet), name = `spd-match-${Math.random().toString(36).slice(2)}`
  const firing = (side, i) => side === 'left' ? d.density?.[i] : d.partner_density?.[i]
  // What a component does, in one line: its label, or else tokens that it fires on and predicts
  function gist(side, i) {
    const ahead = side === 'left' ? '' : 'partner_', label = d[`${ahead}label`][i], on = d[`${ahead}fires_on`][i], says = d[`${ahead}predicts`][i], p = firing(side, i)
    if (label) return h('span', { class: 'spd-match-gist', title: label }, label)
    if (p === 0) return h('span', { class: 'spd-match-gist spd-faint' }, 'never fires')
    return on.length || says.length ? h('span', { class: 'spd-match-gist' }, on.slice(0, 2).map(t => token(t)), ' → ', says.slice(0, 2).map(t => token(t))) : null
  }
  function end(side, key, i) {
    const p = firing(side, i)
    if (!key) return h('div', { class: 'spd-match-end spd-faint' }, 'no partner')
    return h('div', { class: 'spd-match-end' }, nameElement(key), evidence[side] ? [gist(side, i), h('span', { class: 'spd-num spd-faint spd-match-density', title: 'density: share of positions at which it fires' }, percent(p))] : null)
  }
  function row(i, at) {
    const top = `top: ${at * tall}px; height: ${tall}px`, v = d.similarity[i]
    if (i < 0) return h('div', { class: 'spd-match-heading', role: 'presentation', style: top }, nameElement(d.sites[-1 - i]))
    const key = keyOf(d, i), strong = Math.max(0, Math.min(1, v ?? 0)) ** 2 // so that 0.7 and 0.9 look different
    return h('div', { class: `spd-match-row${v !== null && v >= how.now.least ? '' : ' spd-match-weak'}`, role: 'option', id: `${name}-${i}`, 'aria-posinset': at + 1, 'aria-setsize': rows.length, 'data-key': key, style: top, onclick: () => { list.focus({ preventScroll: true }); pick(key) } },
      end('left', key, i), h('div', { class: 'spd-match-link', title: `similarity ${similarity(v)}, after mixing ${similarity(d.mixed[i])}` }, v === null ? null : h('i', { style: `height: ${(1 + 8 * strong).toFixed(1)}px; opacity: ${(.2 + .8 * strong).toFixed(2)}` }), h('span', { class: 'spd-num' }, similarity(v))), end('right', partnerOf(d, i), i))
  }
  let drawnRows = new Map()
  function drawRows(same = false) { // `same`: rows that are there already have not changed
    const first = Math.max(0, Math.floor(list.scrollTop / tall) - 4), last = Math.min(rows.length, Math.ceil((list.scrollTop + list.clientHeight) / tall) + 4)
    sheet.style.height = `${rows.length * tall}px`
    const now = new Map(rows.slice(first, last).map((i, j) => [i, same && drawnRows.get(i) || row(i, first + j)]))
    drawnRows = now
    sheet.replaceChildren(...now.values(), ...(rows.length ? [] : [h('p', { class: 'spd-faint' }, 'No pair passes these filters.')]))
    mark()
  }
  function mark() { // the picked pair, without drawing the list again
    for (const e of sheet.children) if (e.dataset.key) e.setAttribute('aria-selected', String(e.dataset.key === picked.now.key))
    list.setAttribute('aria-activedescendant', current() < 0 ? '' : `${name}-${current()}`)
  }
  function drawList() {
    const some = listed(d, hay, how.now)
    rows = how.now.sort === 'site' ? withHeadings(d, some) : some
    count.textContent = some.length === n ? '' : `${many(some.length, 'pair')} of ${n.toLocaleString('en')}`
  }
  function reveal() { // scrolls the list, and not the page, to the picked pair
    const at = rows.indexOf(current())
    if (at < 0 || current() < 0) return
    const top = at * tall, lead = rows[at - 1] < 0 ? tall : 0
    const above = list.scrollTop - (top - lead), below = top + tall - (list.scrollTop + list.clientHeight)
    if (above <= 0 && below <= 0) return
    list.scrollTop = Math.max(above, below) > 2 * tall ? top - (list.clientHeight - tall) / 2 : above > 0 ? top - lead : top + tall - list.clientHeight
    drawRows(true)
  }
  function listKey(e) {
    const to = moved(rows, rows.indexOf(current()), e.key)
    if (to < 0) return
    e.preventDefault()
    pick(keyOf(d, rows[to]))
  }
  body.addEventListener('keydown', e => { if (e.key === 'Escape' && e.target.tagName !== 'INPUT') { e.preventDefault(); pick('') } })

  // the picked pair

  const pair = h('div', { class: 'spd-match-pair' }), sides = h('div', { class: 'spd-match-evidence' })
  const partners = Object.fromEntries([...owner].map(([k]) => [k, true]))
  const left = pickedDetail({ get: k => k === 'key' ? picked.now.key : model.get(k) }, ask, pick)
  const right = pickedDetail({ get: k => k === 'key' ? partner() : k === 'details' ? model.get('partner_details') ?? partners : model.get('partner_evidence') }, (what, args) => ask('of_partner', { what, ...args }), key => { if (owner.has(key)) pick(keyOf(d, owner.get(key))) })
  const partner = () => current() < 0 ? '' : partnerOf(d, current())
  const titled = (title, side) => h('div', { class: 'spd-match-side' }, h('h3', { class: 'spd-match-title' }, title), side.el), leftSide = titled(here, left), rightSide = titled(there, right)
  sides.append(leftSide, rightSide)
  const link = (i, text) => h('button', { class: 'spd-match-jump', 'data-to': keyOf(d, i), title: `pick ${keyOf(d, i)} and its partner`, onclick: () => pick(keyOf(d, i)) }, nameElement(text, { title: null }))
  function facts(i) {
    const key = keyOf(d, i), other = partnerOf(d, i), site = d.sites[d.site[i]], best = `${site}:${d.best_c[i]}`, back = d.back_of[i]
    const fact = (what, v, ...more) => h('div', { class: 'spd-match-fact' }, h('span', { class: 'spd-num' }, similarity(v)), h('span', {}, what, more))
    if (d.similarity[i] === null) return h('div', { class: 'spd-match-facts' }, fact('the first cannot be compared: the likeness has nothing to say about it', null))
    return h('div', { class: 'spd-match-facts' },
      other ? fact('similarity of the two', d.similarity[i]) : fact('no partner: nothing is left that is like it in ', d.similarity[i], there),
      other === best ? fact('no component of ', d.best[i], there, ' is more similar to the first') : fact('the most similar component of ', d.best[i], there, ' to the first: ', owner.has(best) ? [link(owner.get(best), best), ` (partner of `, nameElement(keyOf(d, owner.get(best))), ')'] : [nameElement(best), ' (no partner)']),
      !other ? null : back === i ? fact('no component of ', d.back[i], here, ' is more similar to the second') : fact('the most similar component of ', d.back[i], here, ' to the second: ', link(back, keyOf(d, back))),
      fact('similarity with the partner that the first has after mixing, the control', d.mixed[i]))
  }
  function drawPair() {
    const { key } = picked.now, i = current()
    leftSide.hidden = !key || !evidence.left
    rightSide.hidden = i < 0 || !partner() || !evidence.right
    sides.classList.toggle('spd-match-both', !leftSide.hidden && !rightSide.hidden)
    if (!leftSide.hidden) left.show()
    if (!rightSide.hidden) right.show()
    if (!key) { pair.replaceChildren(h('p', { class: 'spd-faint' }, `Pick a pair to see its numbers${evidence.left || evidence.right ? ' and the evidence about its components' : ''}.`)); return }
    if (i < 0) { pair.replaceChildren(h('p', { class: 'spd-faint' }, h('code', {}, key), ' is not among the components that were matched.')); return }
    pair.replaceChildren(h('div', { class: 'spd-row' }, h('h3', { class: 'spd-match-two' }, nameElement(key), partner() ? [' and ', nameElement(partner())] : ''), h('button', { class: 'spd-let-go', title: 'Escape', onclick: () => { pick(''); list.focus({ preventScroll: true }) } }, 'let go')),
      rows.includes(i) ? '' : h('p', { class: 'spd-faint spd-match-out' }, 'The filters leave this pair out of the list.'), facts(i))
  }

  function fill() {
    slider.value = how.now.least
    sort.value = how.now.sort
    if (search.value !== how.now.search) search.value = how.now.search
  }
  let last = ''
  function refresh() {
    const { sort, site, search } = how.now, filters = JSON.stringify([sort, site, search]), other = filters !== last
    if (other) { last = filters; drawList(); list.scrollTop = 0 }
    drawSaid()
    drawHistogram()
    drawSites()
    drawRows()
    if (other) { drawPair(); reveal() }
  }
  body.append(h('div', { class: 'spd-match-panes' }, h('div', {}, said, h('div', { class: 'spd-match-least' }, slider), drawn), h('div', {}, h('h3', {}, 'by site'), bySite)),
    h('div', { class: 'spd-row spd-match-filters' }, search, sort, count), note, h('div', { class: `spd-match-table${evidence.left ? '' : ' spd-match-bare'}` }, head, list), pair, sides)
  function lay() { tall = body.clientWidth && body.clientWidth < 560 ? (evidence.left || evidence.right ? 84 : 58) : 30 }
  let laid = body.clientWidth
  const watch = new ResizeObserver(() => { if (body.clientWidth === laid) return; laid = body.clientWidth; lay(); drawRows(); reveal() })
  watch.observe(body)
  const keyed = () => picked.adopt(), arranged = debounce(() => how.adopt(), 20) // several traits may come in messages of their own
  model.on('change:key', keyed)
  for (const k in how.now) model.on(`change:${k}`, arranged)
  lay()
  fill()
  refresh()
  drawPair()
  return () => { watch.disconnect(); model.off('change:key', keyed); for (const k in how.now) model.off(`change:${k}`, arranged); close() }
}

export default { render, answer }
