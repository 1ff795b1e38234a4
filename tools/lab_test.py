"""Open a notebook in a real JupyterLab (Debian's chromium, loopback only), run all its cells and look at it:
python tools/lab_test.py nbs/tutorials/01_tms.ipynb out.png                      the top of the page, at the end
python tools/lab_test.py nbs/tutorials/01_tms.ipynb out.png --scroll 0 900 1800  out-0.png, out-900.png, out-1800.png
python tools/lab_test.py nbs/tutorials/01_tms.ipynb out.png --full               the whole notebook in one picture
Prints cell errors, the browser's errors and requests that left the machine; exits 1 if there were any of the first or
last. Needs `chromium` on PATH."""
import argparse, json, os, secrets, shutil, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path
from jupyter_client import BlockingKernelClient
from playwright.sync_api import sync_playwright

FLAGS = (
    '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync').split()
# render every cell, also out of view
SETTINGS = {'notebook-extension/tracker': {'windowingMode': 'none', 'scrollPastEnd': False},
            'docmanager-extension/plugin': {'autosave': False},  # looking at a notebook does not change it
            'apputils-extension/notification': {'checkForUpdates': False, 'fetchNews': 'false'}}

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

class Lab:
    "JupyterLab on loopback, all of its state in a temporary folder"
    def __init__(self, root):
        self.tmp,self.port,self.token = Path(tempfile.mkdtemp(prefix='lab_')), free_port(), secrets.token_hex(16)
        dirs = dict(HOME='.', JUPYTER_CONFIG_DIR='cfg', JUPYTER_DATA_DIR='data', JUPYTER_RUNTIME_DIR='run',
            IPYTHONDIR='ipy', JUPYTERLAB_SETTINGS_DIR='set', JUPYTERLAB_WORKSPACES_DIR='ws')
        env = dict(os.environ, JUPYTER_TOKEN=self.token, **{k:str(self.tmp/v) for k,v in dirs.items()})
        env.pop('PLOTLY_RENDERER', None)
        for k,v in SETTINGS.items():
            f = self.tmp/'set'/'@jupyterlab'/f'{k}.jupyterlab-settings'
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_text(json.dumps(v), encoding='utf-8')
        (self.tmp/'cfg'/'labconfig').mkdir(parents=True)
        (self.tmp/'cfg'/'labconfig'/'page_config.json').write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}', encoding='utf-8')  # noqa: E501
        cmd = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1',
            f'--ServerApp.port={self.port}', '--ServerApp.port_retries=0',
               f'--ServerApp.root_dir={root}', '--LabApp.news_url=',
               '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
               '--LabApp.extension_manager=readonly', '--LabApp.expose_app_in_browser=True']
        self.log = open(self.tmp/'log', 'w', encoding='utf-8')
        self.p = subprocess.Popen(cmd, env=env, stdout=self.log, stderr=self.log)
        for _ in range(240):
            try:
                self.get('/api/status')
                return
            except OSError: time.sleep(.5)
        log = (self.tmp/'log').read_text(encoding='utf-8')
        self.close()
        raise RuntimeError(f'JupyterLab did not start:\n{log}')
    def __enter__(self): return self
    def __exit__(self, *exc): self.close()
    def url(self, p): return f'http://127.0.0.1:{self.port}{p}{"&" if "?" in p else "?"}token={self.token}'
    def get(self, p):
        with urllib.request.urlopen(self.url(p), timeout=20) as r: return json.load(r)
    def eval(self, path, expr, code=''):
        "Run `code` in the kernel of the open notebook `path` and evaluate `expr`"
        kid = next(s['kernel']['id'] for s in self.get('/api/sessions') if s['path']==path)
        kc = BlockingKernelClient(connection_file=str(self.tmp/'run'/f'kernel-{kid}.json'))
        # a heartbeat that is stopped before its thread runs makes sockets until none is left
        kc.load_connection_file()
        kc.start_channels(hb=False)
        try:
            reply = kc.execute(code, user_expressions={'x': expr}, reply=True, timeout=60)['content']
            if reply['status']!='ok': return f"{reply['ename']}: {reply['evalue']}"
            r = reply['user_expressions']['x']
            return r['data']['text/plain'] if r['status']=='ok' else f"{r['ename']}: {r['evalue']}"
        finally: kc.stop_channels()
    def close(self):
        self.p.terminate()
        try: self.p.wait(60)  # it ends its kernels first
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        self.log.close()
        shutil.rmtree(self.tmp, ignore_errors=True)

def open_nb(page, lab, path):
    page.goto(lab.url(f'/lab/tree/{path}?reset'), wait_until='domcontentloaded')
    page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=60_000)
    # the session is attached: running earlier opens "Select Kernel"
    page.wait_for_selector('#jp-main-statusbar :text("| Idle")', timeout=120_000)
    page.evaluate('() => window.jupyterapp.shell.collapseLeft()')

def watched(page, port):
    """What a page does that it should not, gathered from now on: requests that leave the machine (all of them where
    `port` is None), errors in its console"""
    outside,noise = set(), []
    def seen(url): outside.add(url) if url.startswith(('http','ws')) and f'//127.0.0.1:{port}/' not in url else None
    page.on('request', lambda r: seen(r.url))
    page.on('websocket', lambda w: seen(w.url))
    page.on('pageerror', lambda e: noise.append(str(e)))
    page.on('console', lambda m: noise.append(m.text)
        if m.type=='error' else None)
    return outside,noise

def run_all(page, timeout, settle=1500):
    "Run all cells of the open notebook and wait for them; the errors, as (cell number, name, message)"
    page.get_by_role('menuitem', name='Run', exact=True).click()
    page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
    page.wait_for_function('''() => {
        const w = window.jupyterapp.shell.currentWidget, cells = [...w.content.model.cells], code = cells.filter(c => c.type=='code' && c.sharedModel.source.trim())
        const failed = code.some(c => c.outputs.toJSON().some(o => o.output_type=='error'))
        return w.sessionContext.session.kernel.status=='idle' && code.every(c => c.executionState!='running') && (failed || code.every(c => c.executionCount))
    }''', timeout=timeout*1000, polling=300)  # noqa: E501
    page.wait_for_timeout(settle)  # figures and widgets draw after the kernel is done
    return page.evaluate('''() => [...window.jupyterapp.shell.currentWidget.content.model.cells].flatMap((c,i) => c.type=='code' ?
        c.outputs.toJSON().filter(o => o.output_type=='error').map(o => [i+1, o.ename, o.evalue]) : [])''')  # noqa: E501

def scroller(page): return page.locator('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')

def pictures(page, out, scroll=(), full=False):
    "Write screenshots; the paths"
    box = scroller(page)
    if full:
        height = box.evaluate('e => e.scrollHeight')
        page.set_viewport_size(dict(width=page.viewport_size['width'], height=min(height+160, 16000)))
        box.evaluate('e => e.scrollTo(0,0)')
        page.wait_for_timeout(1500)
        box.screenshot(path=out)
        return [out]
    paths = []
    for y in scroll or (0,):
        box.evaluate('(e,y) => e.scrollTo(0,y)', y)
        page.wait_for_timeout(700)
        paths.append(out.with_stem(f'{out.stem}-{y}') if len(scroll)>1 else out)
        page.screenshot(path=paths[-1])
    return paths

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('nb', type=Path)
    ap.add_argument('out', type=Path)
    ap.add_argument('--scroll', type=int, nargs='+', default=[], help='pixels from the top, a picture each')
    ap.add_argument('--full', action='store_true', help='the whole notebook in one picture')
    ap.add_argument('--width', type=int, default=1300)
    ap.add_argument('--height', type=int, default=900)
    ap.add_argument('--timeout', type=int, default=600, help='seconds for all cells')
    ap.add_argument('--click', nargs='+', default=[], metavar='SELECTOR', help='clicked in turn after the run')
    ap.add_argument('--eval', nargs='+', default=[], metavar='EXPR', help='evaluated in the kernel at the end')
    a = ap.parse_args()
    nb = a.nb.resolve()
    inside = nb.is_relative_to(Path.cwd())
    root = Path.cwd() if inside else nb.parent
    path,before = nb.relative_to(root).as_posix(), nb.read_bytes()
    chromium = shutil.which('chromium') or sys.exit('no chromium on PATH; on Debian: apt-get install chromium')
    with Lab(root) as lab, sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page(viewport=dict(width=a.width, height=a.height))
        outside,noise = watched(page, lab.port)
        open_nb(page, lab, path)
        t = time.time()
        errors = run_all(page, a.timeout)
        print(f'ran all cells in {time.time()-t:.0f} s')
        for s in a.click:
            page.locator(s).first.click()
            page.wait_for_timeout(700)
        for f in pictures(page, a.out, a.scroll, a.full): print('wrote', f)
        for e in a.eval: print(e, '=', lab.eval(path, e))
        browser.close()
    if nb.read_bytes()!=before: nb.write_bytes(before)
    for i,name,msg in errors: print(f'cell {i} failed: {name}: {msg}')
    for o in dict.fromkeys(noise[:10]): print('browser:', o[:300])
    print('requests outside loopback:', sorted(outside) or 'none')
    sys.exit(bool(errors or outside))

if __name__=='__main__': main()
