"Importing spd_nb is cheap and does nothing: no heavy package, no file, no network, no process"
import json, subprocess, sys
import pytest
from test_layout import HEAVY, NBS, ROOT, WIDGET, exported, is_widget, module

# The second import has the third-party modules loaded already, so that what the audit hook sees is our own doing.
PROBE = '''
import importlib, json, sys
names,heavy = json.loads(sys.argv[1])
loaded,seen = {},[]
for n in names:
    before = set(sys.modules)
    importlib.import_module(n)
    loaded[n] = sorted(h for h in heavy if h in sys.modules and h not in before)
for n in [m for m in sys.modules if m.split('.')[0]=='spd_nb']: del sys.modules[n]
def hook(event, args):
    source = event=='open' and str(args[0]).endswith(('.py','.pyc','.so','.pyd'))
    if not source and event.split('.')[0] in ('open','socket','subprocess','shutil') or event in ('os.mkdir','os.remove','os.rename','os.system','os.posix_spawn','urllib.Request'):
        seen.append((event, str(args[:1])))
sys.addaudithook(hook)
for n in names: importlib.import_module(n)
print(json.dumps([loaded, seen[:]]))
'''  # noqa: E501

def probe(names, heavy):
    p = subprocess.run([sys.executable, '-B', '-c', PROBE, json.dumps([names, sorted(heavy)])], cwd=ROOT,
        capture_output=True, text=True)
    assert p.returncode==0, p.stderr
    return json.loads(p.stdout.splitlines()[-1])

@pytest.mark.parametrize('widgets', [False,True], ids=['modules','widgets'])
def test_import_is_light_and_touches_nothing(widgets):
    names = ['spd_nb'] * (not widgets) + [f'spd_nb.{module(nb)}' for nb in NBS if is_widget(exported(nb))==widgets]
    if not names: pytest.skip('no widget page yet')
    loaded,seen = probe(names, HEAVY-WIDGET if widgets else HEAVY)
    assert not {n:h for n,h in loaded.items() if h}
    assert not seen
