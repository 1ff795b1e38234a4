"""The story's harvest with names that try to be markup, scripts, formulas or nothing at all, and all that shows such
names"""
import copy, json, shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
import pandas as pd, torch
from seals import rewritten
from spd_nb.harvest import Harvest
from spd_nb.integrity import file_about
from spd_nb.stories import story_tokenizer

STORY = Path(__file__).parent.parent/'data'/'story'
PROMPT,QUOTE = 'Ida went to the farm. She got a letter:','model.layers.1.mlp.down_proj:80'
TEXTS = ['<script>window.pwned=1</script>', '<img src=x onerror="window.pwned=1">', '</style><style>*{display:none}',
    '</script>', '"\' onmouseover="window.pwned=1', '`${window.pwned=1}`', '$x^2$', r'\(y\)', '\u202eabc', 'a\u200bb',
    '\n', '\t', '\0', '😀', '👨\u200d👩\u200d👧\u200d👦', '\ufffd', '%{x}', '&lt;b&gt;', '__proto__', 'constructor', '',
    'javascript:window.pwned=1', '<!--', ']]>', '<b>' ]
# Of what a page keeps
LIMITS = dict(browser=dict(keys=[QUOTE, 'model.layers.0.mlp.up_proj:103',
    *(f'model.layers.1.mlp.down_proj:{i}' for i in (43,130))], examples=2), lens=dict(prompts=[PROMPT, '__proto__',
    'constructor'], most=1, examples=1),
    clusters=dict(components=2, examples=1), match=dict(pairs=2, examples=1), graph=dict(most=2, examples=1),
    qk=dict(examples=1))
LABELS = [*TEXTS, '\udc80', '<i>'+'long '*600, 'x'*3000]

def tame(texts): return [f'name{i}' for i in range(len(texts))]

class Writes:
    "The story's tokenizer, whose tokens look as given"
    def __init__(self, texts): self.tok,self.texts = story_tokenizer(),texts
    def __getattr__(self, k): return getattr(self.tok, k)
    def __len__(self): return len(self.tok)
    def __call__(self, text, **kw):
        return SimpleNamespace(input_ids=[self.texts.index(text)]) if text in self.texts else self.tok(text, **kw)
    def decode(self, ids, **kw): return ''.join(self.texts[i] for i in ids)
    def batch_decode(self, rows, **kw): return [self.decode(r) for r in rows]

def copied(path, texts=TEXTS, labels=LABELS):
    "A harvest in which every token and every label is one of these, the first ones where most is seen; its folder"
    import pyarrow as pa, pyarrow.parquet as pq
    shutil.copytree(STORY/'harvest', path)
    f = path/'token_totals.parquet'
    t,own = pq.read_table(f),story_tokenizer()(PROMPT, add_special_tokens=False).input_ids
    order = dict.fromkeys([*own, *sorted(range(len(t)), key=lambda i: -t['count'][i].as_py())])
    named = {i:texts[k%len(texts)]+(str(k//len(texts)) if k>=len(texts) else '') for k,i in enumerate(order)}
    pq.write_table(t.set_column(1, 'text', pa.array([named[i] for i in range(len(t))])), f, write_page_checksum=True)
    files = json.loads((path/'manifest.json').read_text(encoding='utf-8'))['files']
    rewritten(path/'manifest.json', files=files|{f.name:files[f.name]|file_about(f)})
    rows = [json.loads(l) for l in (path/'labels.jsonl').read_text(encoding='utf-8').splitlines()]
    each = [r|dict(input_label=labels[i%len(labels)], output_label=labels[(i+7)%len(labels)], strategy=labels[i%4])
        for i,r in enumerate(rows)]
    (path/'labels.jsonl').write_text('\n'.join(map(json.dumps, each))+'\n', encoding='utf-8')
    return path

def opened(path, dm):
    h = Harvest(path, dm)
    h._tokenizer = Writes(h.texts)
    return h

def learner(names):
    "What a monitor watches"
    return SimpleNamespace(step=3, steps=99, losses=dict.fromkeys(names, 0),
        history=[dict.fromkeys(names, 2.**-i)|dict(step=i, l0=1.25) for i in range(3)], l0=dict.fromkeys(names, 1.),
        ci={n:torch.rand(2, 5) for n in names}, stop=lambda: None)

def views(h, dm, names):
    "Every view, by title"
    from spd_nb.attribution import graph
    from spd_nb.browser import ComponentBrowser
    from spd_nb.diff import EditDiff
    from spd_nb.graph_view import GraphView
    from spd_nb.lens import PromptLens
    from spd_nb.monitor import TrainingMonitor
    from spd_nb.pickers import HeatmapPicker, ParetoPicker
    from spd_nb.qk_view import QKView
    from spd_nb.studio import EditStudio
    from spd_nb.tradeoff import Measured
    n,monitor = len(names),TrainingMonitor(seconds=0.)
    monitor(learner(list(dict.fromkeys(names))))
    monitor.note = names[0]
    monitor.data = monitor._data()
    edit,g = named_edit(dm, names),graph(dm, PROMPT, tokenizer=h.tokenizer)
    best = g.nodes[g.nodes.kind=='component'].nlargest(13, 'influence').index.tolist()
    studio = EditStudio(h, prompt=PROMPT, changes=[dict(key=QUOTE, factor=0., token='', strength=1.),
        dict(key='model.layers.1.mlp.down_proj:130', factor=1., token=names[0], strength=1.)])
    return dict(browser=ComponentBrowser(h, key=QUOTE), lens=PromptLens(h, prompt=PROMPT, key=QUOTE), studio=studio,
        monitor=monitor,
        heat=HeatmapPicker(torch.arange(4.*n).view(4, n), x=names, y=names[:4], title=names[0], x_title=names[1],
            y_title=names[2], z_title=names[3]),
        pareto=ParetoPicker(frame(names), names[6], 'p', group='group', text='edit', title=names[0], x_title=names[1],
            y_title=names[2]),
        diff=EditDiff(dm, edit, [PROMPT, names[0] or PROMPT], n=5, tokenizer=h.tokenizer,
        measured=Measured(measures(names), None, None)),
        graph=GraphView(g, h, pinned=best, groups={n:[b] for n,b in zip(names[:12], best[:-1])}),
        qk=QKView(dm, PROMPT, h), clusters=clustered(h), match=matched(h, names))

def clustered(h):
    "A clustering of components that have all labels among them"
    from spd_nb.cluster_picker import ClusterPicker
    from spd_nb.clusters import cluster
    from spd_nb.memberships import Memberships
    keys = h.labels.frame().index[:60]
    m = Memberships(keys, torch.rand(200, 60, generator=torch.Generator().manual_seed(0)).numpy()<.3)
    return ClusterPicker(cluster(m, 10., progress=False), h, m, step=20, group=0)

def matched(h, names):
    "A match of components that have all labels among them with others"
    from spd_nb.compare import Match
    from spd_nb.match_view import MatchView
    site,x = QUOTE.rpartition(':')[0],torch.rand(80, 160, generator=torch.Generator().manual_seed(0)).numpy()
    df = pd.DataFrame(dict(partner=[f'{site}:{159-i}' for i in range(80)], similarity=[x[i,159-i] for i in range(80)],
        best=x.max(1), mixed=x[:,0]), index=[f'{site}:{i+1}' for i in range(80)])
    return MatchView(Match(df, {site:x}), h, h, key=QUOTE, names=(names[0], names[1]))

def named_edit(dm, names):
    from spd_nb.edit import Edit, ablated
    e = ablated(dm, QUOTE)
    return Edit(dm, e.patches, [dict(form=n, of=[n, QUOTE]) for n in names])

def texts(names): return pd.Series(names, dtype=object) # pandas' own type for texts holds no lone surrogate

def frame(names):
    return pd.DataFrame({names[6]:[i+1. for i in range(len(names))], 'p':[(i%5)/5 for i in range(len(names))],
        'edit':texts(names), 'group':texts([names[i%3] for i in range(len(names))])})

def whole(names): return [n.replace('\udc80', '\ufffd') for n in names] # for what goes through pandas' own texts

def measures(names):
    names = whole(names)
    return pd.DataFrame(dict(value=.5, low=.1, high=.9, n=3, what=names),
        index=pd.Index(names, name='measure', dtype=object), dtype=object)

def tables(h, dm, names):
    "Everything else that shows itself in a notebook, by title"
    from spd_nb.autointerp import Labelled
    from spd_nb.eval import Check, Report
    from spd_nb.lora import Projection
    from spd_nb.planning import Plan
    from spd_nb.tradeoff import Generations, Measured
    from spd_nb.learner import Learner
    edit,by_name = named_edit(dm, names),dict.fromkeys(names, .5)
    run,model = object.__new__(Learner),copy.copy(dm)
    run.__dict__.update(history=[dict.fromkeys(names, 1.)], step=1, steps=2)
    model.report = dict(verdict=names[0], checks=[dict(name=n, verdict='warn') for n in names])
    model.__class__ = type('Decomposed', (type(dm),), dict(edits=[edit]))
    return dict(harvest=h, component=h.component(QUOTE), other=h.component('model.layers.1.mlp.down_proj:130'),
        directions=h.lens(QUOTE), edit=edit, decomposed=model,
        report=Report([Check(n, 'pass', .5, n) for n in names], {}),
        labelled=Labelled(h.labels.frame().head(30), {n:n for n in names}, names, 0., 0., 1,
            1), measured=Measured(measures(names), None, None), run=run,
        projection=Projection(pd.DataFrame(dict(amount=1., reads=names),
            index=pd.Index(names, name='key', dtype=object), dtype=object), by_name, by_name), plan=Plan(.1, 1., 10.,
            names),
        generations=Generations(pd.DataFrame(dict(prompt=names, how='greedy', before=names, after=names),
        dtype=object)))

def figures(names):
    "Figures that show names, by title"
    from spd_nb import plots
    from spd_nb.component_plots import l0_bars
    from spd_nb.tradeoff import changes_heatmap
    n,kept = len(names),list(dict.fromkeys(whole(names)))
    changes = pd.DataFrame(dict(token=texts(names), kl=[i/n for i in range(n)], kl_back=0.,
        changes=texts([f'{t!r} 0.1 → 0.2\n{t}' for t in names])))
    return dict(tokens=plots.token_heatmap(names, [i/n for i in range(n)], title=names[0], z_title=names[1],
        hover=names), changes=changes_heatmap(changes, title=names[2]),
        front=plots.pareto(frame(names), names[6], 'p', group='group', text='edit', title=names[3]),
        bars=l0_bars(dict.fromkeys(kept, 1.), totals=dict.fromkeys(kept, 4), title=names[4]),
        matrix=plots.heatmap(torch.rand(n, n), x=names, y=names))

class Read(HTMLParser):
    "What a browser would make of HTML: elements with their attributes, texts, scripts, styles; frames are read too"
    def __init__(self, html):
        super().__init__()
        self.elements,self.texts,self.code,self.frames,self.inside = Counter(),[],[],[],[]
        self.feed(html)
        self.close()
    def handle_starttag(self, tag, attrs):
        self.elements[tag,tuple(sorted(k for k,_ in attrs))] += 1
        attrs = dict(attrs)
        self.inside.append((tag,attrs))
        if 'srcdoc' in attrs: self.frames.append(Read(attrs['srcdoc']))
    def handle_endtag(self, tag):
        while self.inside and self.inside.pop()[0]!=tag: pass
    def handle_comment(self, data): self.elements['comment',()] += 1
    def handle_decl(self, decl): self.elements[decl,()] += 1
    def unknown_decl(self, data): self.elements['unknown',()] += 1
    def handle_pi(self, data): self.elements['instruction',()] += 1
    def handle_data(self, data):
        tag,attrs = self.inside[-1] if self.inside else ('',{})
        if tag in ('script','style'):
            self.code.append((tag,attrs.get('type'),data)) if attrs.get('type')!='text/plain' else None
        else: self.texts.append(data)
