"""What the docs say of each public name, read from the modules without running them: its call, its arguments with the
comments beside them, what comes back, its methods and fields; where each is documented; and links to it from prose"""
import ast, re, textwrap, tokenize
from collections import Counter
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from nbdev.config import get_config

ROOT = Path(__file__).resolve().parent.parent
DEFS = ast.FunctionDef,ast.AsyncFunctionDef
SPOKEN = '__call__','__add__','__getitem__','__len__','__iter__','__enter__'  # methods that one does not call by name
NUMBER = re.compile(r'^\d+[a-z]?_')

class Arg(NamedTuple):
    "An argument or a field"
    name:str
    type:str=''
    default:str|None=None
    about:str=''

class Doc(NamedTuple):
    "A public name"
    name:str                # `Edit`, or `Edit.export` for a method
    kind:str                # `function`, `context`, `class`, `method`, `property`
    args:list[Arg]
    returns:Arg             # `type` and `about`
    text:str                # Docstring
    line:int
    bases:list[str]=[]
    members:list['Doc']=[]
    fields:list[Arg]=[]     # That are no arguments: traits

    @property
    def summary(self)->str: return self.text.split('\n\n')[0].replace('\n', ' ')

# reading

def comments_of(source):
    "Line to comment, and whether it has the line to itself"
    found = {}
    for t in tokenize.generate_tokens(StringIO(source).readline):
        text = t.string.lstrip('#').strip()
        if t.type==tokenize.COMMENT and not text.startswith('%%'):
            found[t.start[0]] = text,t.line.strip().startswith('#')
    return found

def as_written(source, node):
    "Source of an annotation or a default, on one line, without the quotes of a name in quotes"
    if node is None: return ''
    if isinstance(node, ast.Constant) and isinstance(node.value, str): return node.value
    return re.sub(r'\s+', ' ', ast.get_source_segment(source, node)).replace('( ', '(')

def value(source, node): return None if node is None else ast.get_source_segment(source, node)

def beside(spans, first, comments):
    "For each (first line, last line) the comments above it and behind it"
    texts = []
    for i,(start,end) in enumerate(spans):
        before = first-1 if i==0 else spans[i-1][1]
        said = [comments[n][0] for n in range(before+1, start) if n in comments and comments[n][1]]
        last = i+1==len(spans) or spans[i+1][0]>end
        if last and end in comments and not comments[end][1]: said.append(comments[end][0])
        texts.append(' '.join(said))
    return texts

def signature(node, source, comments):
    "Arguments and result of a function"
    a = node.args
    plain = a.posonlyargs+a.args
    found = [(x.arg, x, d) for x,d in zip(plain, [None]*(len(plain)-len(a.defaults))+a.defaults)]
    if a.vararg: found.append(('*'+a.vararg.arg, a.vararg, None))
    elif a.kwonlyargs: found.append(('*', None, None))
    found += [(x.arg, x, d) for x,d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: found.append(('**'+a.kwarg.arg, a.kwarg, None))
    real = [f for f in found if f[1] is not None]
    spans = [(x.lineno, (d or x).end_lineno) for _,x,d in real]
    body = node.body[0].lineno
    header = [n for n in range(node.lineno, body) if not (n in comments and comments[n][1])] or [node.lineno]
    end = header[-1]  # where the colon is: a comment there is about what comes back
    after = {n:c for n,c in comments.items() if n>max((s[1] for s in spans), default=node.lineno-1) and n<body}
    if end in comments and end<body: after[end] = comments[end]
    said = beside(spans, node.lineno, {n:c for n,c in comments.items() if n not in after})
    about = dict(zip((f[0] for f in real), said))
    args = [Arg(n, as_written(source, x and x.annotation), value(source, d), about.get(n, '')) for n,x,d in found]
    return args,Arg('', as_written(source, node.returns), None, ' '.join(c for _,(c,_) in sorted(after.items())))

def decorators(node): return {ast.unparse(d).split('(')[0].split('.')[-1] for d in node.decorator_list}

def function(node, source, comments, owner=''):
    args,returns = signature(node, source, comments)
    marks = decorators(node)
    if owner and 'staticmethod' not in marks: args = args[1:]
    kind = 'context' if 'contextmanager' in marks else 'function'
    if owner: kind = 'property' if marks&{'property','cached_property'} else 'context' if kind=='context' else 'method'
    name = f'{owner}.{node.name}' if owner else node.name
    return Doc(name, kind, args, returns, ast.get_docstring(node) or '', node.lineno)

def fields(node, source, comments):
    "Annotated names in the body of a class"
    own = [o for o in node.body if isinstance(o, ast.AnnAssign) and isinstance(o.target, ast.Name)]
    spans = [(o.lineno, o.end_lineno) for o in own]
    said = beside(spans, spans[0][0]-3 if spans else 0, comments)
    return [Arg(o.target.id, as_written(source, o.annotation), value(source, o.value), about)
            for o,about in zip(own, said) if o.target.id[0]!='_']

def traits(node, source):
    "Traits with their `help`, which a front end shares with Python"
    for o in node.body:
        if not isinstance(o, ast.Assign): continue
        calls = [c for c in ast.walk(o.value) if isinstance(c, ast.Call)]
        names = [t for x in o.targets for t in (x.elts if isinstance(x, ast.Tuple) else [x])]
        helps = [k.value for c in calls for k in c.keywords if k.arg=='help' and isinstance(k.value, ast.Constant)]
        if helps and len(helps)==len(names): yield from (Arg(t.id, about=s.value) for t,s in zip(names, helps))

def class_(node, source, comments, classes, patches):
    bases = [ast.unparse(b) for b in node.bases]
    private = [classes[b] for b in bases if b in classes and b[0]=='_']
    init = next((f for c in (node, *private) for f in c.body if isinstance(f, DEFS) and f.name=='__init__'), None)
    args = signature(init, source, comments)[0][1:] if init else []
    record = 'dataclass' in decorators(node) or {'NamedTuple','TypedDict'}&set(bases)
    if record: args = fields(node, source, comments)
    members = {}
    def gather(c):
        for f in [*c.body, *patches.get(c.name, [])]:
            if isinstance(f, DEFS) and (f.name[0]!='_' or f.name in SPOKEN and ast.get_docstring(f)):
                members.setdefault(f.name, function(f, source, comments, node.name))
        for b in c.bases:
            if (name := ast.unparse(b)) in classes and name[0]=='_': gather(classes[name])
    gather(node)
    text,shown = ast.get_docstring(node) or '',[b for b in bases if b[0]!='_']
    return Doc(node.name, 'class', args, Arg(''), text, node.lineno, shown,
        list(members.values()), list(traits(node, source)))

@lru_cache(None)
def documented(module):
    "Every public function and class of a module, by name, in its order; and the names in its `__all__`"
    source = (ROOT/'spd_nb'/f'{module}.py').read_text(encoding='utf-8')
    tree,comments = ast.parse(source),comments_of(source)
    exported = next((ast.literal_eval(o.value) for o in tree.body if ast.unparse(o).startswith('__all__')), [])
    classes = {o.name:o for o in tree.body if isinstance(o, ast.ClassDef)}
    patches = {}
    for o in tree.body:
        if isinstance(o, DEFS) and 'patch' in decorators(o):
            patches.setdefault(ast.unparse(o.args.args[0].annotation), []).append(o)
    def doc(o):
        if isinstance(o, DEFS): return function(o, source, comments)
        return class_(o, source, comments, classes, patches)
    own = [o for o in tree.body if isinstance(o, (*DEFS, ast.ClassDef)) and o.name[0]!='_']
    return {o.name:doc(o) for o in own if 'patch' not in decorators(o)},exported

# where things are

class Page(NamedTuple):
    "A page of the API"
    path:str      # Notebook, below `nbs`
    module:str
    title:str
    subtitle:str

    @property
    def out(self)->str: return output_of(self.path)

def output_of(path):
    "The file that nbdev makes of a notebook"
    p = Path(path)
    return p.with_name(NUMBER.sub('', p.name.lower())).with_suffix('.html').as_posix()

def heading_of(nb):
    "Title and subtitle of a notebook"
    first = next(''.join(c['source']) for c in nb['cells'] if c['cell_type']=='markdown')
    title,_,rest = first.partition('\n')
    return title.removeprefix('# ').strip(),rest.strip().removeprefix('> ').strip()

@lru_cache(None)
def pages():
    "Pages of the API in their order"
    import json
    found = []
    for f in sorted((ROOT/'nbs').glob('[0-9]*_*.ipynb')):
        nb = json.loads(f.read_text(encoding='utf-8'))
        found.append(Page(f.name, NUMBER.sub('', f.stem), *heading_of(nb)))
    return found

def hosted():
    "Whether there is a repository and a site that a page may point at; `example` in settings.ini stands for none"
    return get_config().user!='example'

@lru_cache(None)
def ids(module):
    "Name to id of its heading on the page: in lower case, and longer for a class that shares it with a function"
    docs,_ = documented(module)
    names = [n for d in docs.values() for n in (d.name, *(m.name for m in d.members))]
    often = Counter(n.lower() for n in names)
    def shared(n): return often[n.lower()]>1 and n[0].isupper()
    return {n:n.lower()+'-class'*shared(n) for n in names}

@lru_cache(None)
def places():
    "Name to the (page, id) of its definitions; names of methods, and names after their module, are there too"
    found = {}
    for p in pages():
        docs,exported = documented(p.module)
        for d in docs.values():
            if d.name not in exported: continue
            for o in (d, *d.members):
                for n in (o.name, f'{p.module}.{o.name}', f'spd_nb.{p.module}.{o.name}'):
                    found.setdefault(n, []).append((p, ids(p.module)[o.name]))
    return found

def target(name, module='', imported=None):
    "Where a name in backticks is documented: (page, id), or nothing where it is not ours or one of several"
    found = places().get(name.removeprefix('spd.'), [])
    for m in (module, (imported or {}).get(name.split('.')[0])): found = [o for o in found if o[0].module==m] or found
    return found[0] if len(found)==1 else None

CODE = re.compile(r'(?<![`\[])`([^`\s]+?)(\(\))?`(?![`\]])')

def linked(src, path, module='', imported=None):
    "Markdown of the page at `path` with names in backticks as links to where they are documented"
    up = '../'*(len(Path(path).parts)-1)
    def f(m):
        if not (to := target(m[1], module, imported)): return m[0]
        return f'[{m[0]}]({"" if to[0].path==path else up+to[0].out}#{to[1]})'
    fenced,lines = False,[]
    for line in src.splitlines():
        if line.startswith(('```','~~~')): fenced = not fenced
        lines.append(line if fenced or line.startswith(('    ','#')) else CODE.sub(f, line))
    return '\n'.join(lines)

def imported(nb):
    "Name to the module of ours that a notebook imports it from"
    found = {}
    for c in nb.cells:
        if c.cell_type!='code': continue
        for m,names in re.findall(r'^\s*from spd_nb\.(\w+) import (\([^)]*\)|.*)', c.source, re.M):
            names = names.strip('()')
            found |= {n.split(' as ')[0].strip():m for n in names.split(',')}
    return found

# writing

SPECIAL = re.compile(r'[\\*$<>~^|#{}]|(?<!\w)@|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])')

def escaped(text):
    "Text as Markdown that says just that; what is in backticks stays code"
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(p if i%2 else SPECIAL.sub(r'\\\g<0>', p) for i,p in enumerate(parts))

def call(d):
    "How a name is called"
    name = d.name.split('.')[-1] if d.kind in ('method','context') and '.' in d.name else d.name
    args = [a.name if a.default is None else f'{a.name}={a.default}' for a in d.args]
    start = f'{"with " if d.kind=="context" else ""}{name}('
    lines = textwrap.wrap(', '.join(args)+')', 92-len(start), break_long_words=False, break_on_hyphens=False)
    return start+('\n'+' '*len(start)).join(lines)+(':' if d.kind=='context' else '')

def listed(args):
    "Arguments as a list"
    for a in args:
        kind = ', '.join([f'`{a.type}`']*bool(a.type)+[f'default `{a.default}`']*(a.default is not None))
        if a.name=='*' or not (kind or a.about): continue
        yield f'- `{a.name}`'+(f' ({kind})' if kind else '')+(f': {escaped(a.about)}' if a.about else '')

def about(d):
    "Its docstring, in bold where it stands under a name of its own"
    first,*rest = map(escaped, d.text.split('\n\n'))
    if d.kind=='property' and d.returns.about: first += f' ({escaped(d.returns.about)})'
    return '\n\n'.join([first if '.' in d.name else f'**{first}**', *rest])

def result(d):
    "What comes back"
    verb,kind = 'Yields' if d.kind=='context' else 'Returns',d.returns.type
    text = escaped(re.sub('^Yields ', '', d.returns.about))
    if not text: return f'{verb} `{kind}`'
    return f'{verb} (`{kind}`): {text}' if kind else f'{verb}: {text}'

def section(d, heading, anchor, source=''):
    "Markdown about a name"
    parts = [f'{"#"*heading} {escaped(d.name)} {{#{anchor}}}']
    if source: parts.append(f'[source]({source}#L{d.line}){{target="_blank" style="float:right; font-size:smaller"}}')
    if d.kind=='property': parts.append('Property'+(f', `{d.returns.type}`' if d.returns.type else ''))
    elif d.kind!='class' or d.args: parts.append(f'```python\n{call(d)}\n```')
    if d.text: parts.append(about(d))
    if d.bases: parts.append('Base: '+', '.join(f'`{b}`' for b in d.bases))
    if args := list(listed(d.args)): parts.append('\n'.join(args))
    if d.kind!='property' and (d.returns.type or d.returns.about): parts.append(result(d))
    if d.fields: parts.append('Traits:\n\n'+'\n'.join(listed(d.fields)))
    return '\n\n'.join(parts)

def sections(module, names):
    "Markdown cells that document names of a module, each with its methods"
    docs,_ = documented(module)
    cfg = get_config()
    source = f'{cfg.git_url}/blob/{cfg.branch}/spd_nb/{module}.py' if hosted() else ''
    def whole(d):
        members = [section(m, 4, ids(module)[m.name], source) for m in d.members]
        return '\n\n'.join([section(d, 3, ids(module)[d.name], source), *members])
    return [whole(docs[n]) for n in names if n in docs]
