"Changes of sealed files, as someone makes them who can seal"
import json
from spd_nb.core import sealed

def rewritten(file, **fields):
    "Change fields of a JSON file and seal it again; a field that is `...` goes"
    about = json.loads(file.read_text(encoding='utf-8'))|dict(seal=...)|fields
    file.write_text(sealed({k:v for k,v in about.items() if v is not ...}), encoding='utf-8')
    return file.parent
