"A small Hub on loopback: the parts of its HTTP interface that pushing and fetching use, with faults to order"
import base64, hashlib, json, re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

TOKEN = 'hf_'+'stubtoken'*4

def git_hash(data): return hashlib.sha1(f'blob {len(data)}\0'.encode()+data).hexdigest()

class Repo:
    "Commits as dictionaries from a path to its content, newest last"
    def __init__(self, private=True):
        self.private,self.tags = private,{}
        self.commits = [('0'*39+'1', {'.gitattributes':b''})]
    def add(self, files):
        self.commits.append((hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest(), files))
        return self.commits[-1][0]
    def at(self, revision):
        "The commit of a branch, a tag or a hash; `None` if there is none"
        if revision=='main': return self.commits[-1]
        return dict((c, (c, f)) for c,f in self.commits).get(self.tags.get(revision, revision))

class Hub:
    "The state of the stub"
    def __init__(self, user='ada'):
        self.user,self.repos,self.lfs,self.lock = user,{},{},Lock()
        self.log = []        # method and path of every request
        self.put = []        # hashes of large files that were sent
        self.cut = {}        # path, to bytes after which a download is cut, and how often
        self.refuse = {}     # method and beginning of a path, to a status
        self.drop_puts = 0   # how many uploads of large files to cut
        self.part = None     # size of a part; `None` sends in one
        self.parts = {}
        self.echo_token = False

    def large(self, path): return path.endswith(('.safetensors','.parquet','.npz'))

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    hub:Hub

    def log_message(self, *a): pass

    def answer(self, status=200, data=b'', **headers):
        if not isinstance(data, bytes): data = json.dumps(data).encode()
        self.send_response(status)
        for k,v in (dict(Content_Length=str(len(data)))|headers).items(): self.send_header(k.replace('_', '-'), v)
        self.end_headers()
        if self.command!='HEAD': self.wfile.write(data)

    def fail(self, status, code='', said='no'):
        if self.hub.echo_token: said += ' '+self.headers.get('Authorization', '')
        more = dict(X_Error_Code=code) if code else {}
        self.answer(status, dict(error=said), X_Error_Message=said, **more)

    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
    def json(self): return json.loads(self.body() or b'{}')

    def token(self): return self.headers.get('Authorization')==f'Bearer {TOKEN}'

    def handle_one_request(self):
        try: super().handle_one_request()
        except (ConnectionError, OSError): self.close_connection = True

    def serve(self):
        at = urlsplit(self.path)
        self.at,self.query = unquote(at.path),at.query
        with self.hub.lock: self.hub.log.append((self.command, self.at))
        for (method,start),status in self.hub.refuse.items():
            if self.command==method and self.at.startswith(start):
                self.body()
                return self.fail(status)
        for method,pattern,f in ROUTES:
            if self.command in method and (m := re.fullmatch(pattern, self.at)): return f(self, *m.groups())
        self.fail(404, said=f'the stub has no {self.at}')

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def repo_of(self, name, write=False):
        "A repository that this request may see, or write to; after an answer `None`"
        repo = self.hub.repos.get(name)
        if repo is None or repo.private and not self.token():
            self.body()
            return self.fail(404 if self.token() else 401, 'RepoNotFound')
        if write and not (self.token() and name.startswith(self.hub.user+'/')):
            self.body()
            return self.fail(403 if self.token() else 401)
        return repo

    def create(self):
        want = self.json()
        name = f"{want.get('organization') or self.hub.user}/{want['name']}"
        if not self.token(): return self.fail(401)
        if not name.startswith(self.hub.user+'/'): return self.fail(403)
        if name in self.hub.repos: return self.fail(409)
        self.hub.repos[name] = Repo(want.get('private') or want.get('visibility')=='private')
        self.answer(200, dict(url=f'http://{self.headers["Host"]}/{name}', id=name, name=name))

    def info(self, name, revision='main'):
        if (repo := self.repo_of(name)) is None: return
        if (found := repo.at(revision)) is None: return self.fail(404, 'RevisionNotFound')
        sha,files = found
        def about(n, b):
            row = dict(rfilename=n, size=len(b), blobId=git_hash(b))
            if self.hub.large(n): row['lfs'] = dict(sha256=hashlib.sha256(b).hexdigest(), size=len(b), pointerSize=130)
            return row if 'blobs' in self.query else dict(rfilename=n)
        self.answer(200, dict(_id='1', id=name, modelId=name, sha=sha, private=repo.private, tags=[], downloads=0,
            likes=0, siblings=[about(n, b) for n,b in files.items()]))

    def yaml(self):
        text = self.json()['content']
        self.answer(200, dict(errors=[] if 'library_name: spd_nb' in text else [dict(message='odd')], warnings=[]))

    def preupload(self, name, revision):
        if (repo := self.repo_of(name, write=True)) is None: return
        have = repo.at('main')[1]
        def mode(f):
            path,large = f['path'],self.hub.large(f['path'])
            known = dict(oid=git_hash(have[path])) if path in have and not large else {}
            return dict(path=path, shouldIgnore=False, uploadMode='lfs' if large else 'regular', **known)
        self.answer(200, dict(files=[mode(f) for f in self.json()['files']]))

    def batch(self, name):
        if self.repo_of(name, write=True) is None: return
        def act(o):
            if o['oid'] in self.hub.lfs: return o
            base = f'http://{self.headers["Host"]}/lfs/{o["oid"]}'
            if self.hub.part is None: return o|dict(actions=dict(upload=dict(href=base)))
            n = -(-o['size']//self.hub.part)
            head = {f'{i:05d}':f'{base}/{i}' for i in range(1, n+1)}|dict(chunk_size=str(self.hub.part))
            return o|dict(actions=dict(upload=dict(href=f'{base}/complete', header=head)))
        self.answer(200, dict(objects=[act(o) for o in self.json()['objects']], transfer='basic'))

    def upload(self, oid, part=None):
        if self.hub.drop_puts:
            self.hub.drop_puts -= 1
            self.rfile.read(10)
            self.close_connection = True
            return self.connection.close()
        data = self.body()
        if part is not None:
            self.hub.parts[oid, int(part)] = data
            return self.answer(200, ETag=f'"{git_hash(data)}"')
        if hashlib.sha256(data).hexdigest()!=oid: return self.fail(400)
        self.hub.lfs[oid] = data
        self.hub.put.append(oid)
        self.answer(200)

    def complete(self, oid):
        parts = [p['partNumber'] for p in self.json()['parts']]
        data = b''.join(self.hub.parts[oid, p] for p in parts)
        if hashlib.sha256(data).hexdigest()!=oid: return self.fail(400)
        self.hub.lfs[oid] = data
        self.hub.put.append(oid)
        self.answer(200, {})

    def commit(self, name, revision):
        if (repo := self.repo_of(name, write=True)) is None: return
        sha,files = repo.at('main')
        files = dict(files)
        for line in map(json.loads, self.body().splitlines()):
            v = line['value']
            if line['key']=='header' and v.get('parentCommit') not in (None, sha): return self.fail(412)
            elif line['key']=='file': files[v['path']] = base64.b64decode(v['content'])
            elif line['key']=='lfsFile': files[v['path']] = self.hub.lfs[v['oid']]
            elif line['key']=='deletedFile': del files[v['path']]
        oid = repo.add(files)
        self.answer(200, dict(success=True, commitOid=oid, commitUrl=f'http://{self.headers["Host"]}/{name}/commit/{oid}'))

    def resolve(self, name, revision, path):
        if (repo := self.repo_of(name)) is None: return
        if (found := repo.at(revision)) is None: return self.fail(404, 'RevisionNotFound')
        sha,files = found
        if path not in files: return self.fail(404, 'EntryNotFound')
        data,start = files[path],0
        if m := re.match(r'bytes=(\d+)-', self.headers.get('Range', '')): start = int(m[1])
        etag = hashlib.sha256(data).hexdigest() if self.hub.large(path) else git_hash(data)
        head = dict(ETag=f'"{etag}"', X_Repo_Commit=sha, Accept_Ranges='bytes')
        if self.hub.large(path): head |= dict(X_Linked_Etag=f'"{etag}"', X_Linked_Size=str(len(data)))
        if start: head['Content_Range'] = f'bytes {start}-{len(data)-1}/{len(data)}'
        after,times = self.hub.cut.get(path, (0, 0))
        if self.command=='GET' and times:
            self.hub.cut[path] = after,times-1
            self.send_response(206 if start else 200)
            head['Content_Length'] = str(len(data)-start)
            for k,v in head.items(): self.send_header(k.replace('_', '-'), v)
            self.end_headers()
            self.wfile.write(data[start:start+after])
            self.wfile.flush()
            self.close_connection = True
            return self.connection.close()
        self.answer(206 if start else 200, data[start:], **head)

NAME,REST = r'([^/]+/[^/]+?)',r'(.+)'
ROUTES = [('POST', '/api/repos/create', Handler.create), ('POST', '/api/validate-yaml', Handler.yaml),
    ('GET', f'/api/models/{NAME}/revision/{REST}', Handler.info), ('GET', f'/api/models/{NAME}', Handler.info),
    ('POST', f'/api/models/{NAME}/preupload/{REST}', Handler.preupload),
    ('POST', f'/api/models/{NAME}/commit/{REST}', Handler.commit),
    ('POST', rf'/{NAME}\.git/info/lfs/objects/batch', Handler.batch),
    ('POST', '/lfs/([0-9a-f]+)/complete', Handler.complete),
    ('PUT', '/lfs/([0-9a-f]+)', Handler.upload), ('PUT', r'/lfs/([0-9a-f]+)/(\d+)', Handler.upload),
    (('HEAD','GET'), f'/{NAME}/resolve/([^/]+)/{REST}', Handler.resolve)]

def serving(hub):
    "A server of a hub on a free port, and its address"
    server = ThreadingHTTPServer(('127.0.0.1', 0), type('Here', (Handler,), dict(hub=hub)))
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=[.02], daemon=True).start()
    return server,f'http://127.0.0.1:{server.server_port}'
