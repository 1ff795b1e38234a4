"""Take a trained network apart: `import spd_nb as spd`. Its names and modules are loaded when they are first used"""
__version__ = "0.0.1"

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers; the table below is what runs
    from .attribution import graph
    from .browser import ComponentBrowser
    from .circuits import circuit
    from .edit import ablated, only, scaled, u_replaced, v_replaced
    from .eval import report
    from .export import baked
    from .graph_view import GraphView
    from .harvest import Harvest
    from .learn import write_token
    from .lens import PromptLens
    from .lms import linear_sites, load_lm
    from .data import tokens
    from .model import decompose, load, save
    from .objectives import spd_losses, vpd_losses
    from .planning import plan
    from .studio import EditStudio
    from .tradeoff import measure
    from .train import fit

__all__ = [
    'ComponentBrowser', 'EditStudio', 'GraphView', 'Harvest', 'PromptLens', 'ablated', 'baked', 'circuit',
    'decompose', 'fit', 'graph', 'linear_sites', 'load', 'load_lm', 'measure', 'only', 'plan', 'report', 'save',
    'scaled', 'spd_losses', 'tokens', 'u_replaced', 'v_replaced', 'vpd_losses', 'write_token']

_MODULES = dict(
    attribution='graph', browser='ComponentBrowser', circuits='circuit', data='tokens',
    edit='ablated only scaled u_replaced v_replaced', eval='report',
    export='baked', graph_view='GraphView', harvest='Harvest', learn='write_token', lens='PromptLens',
    lms='linear_sites load_lm',
    model='decompose load save', objectives='spd_losses vpd_losses', planning='plan', studio='EditStudio',
    tradeoff='measure', train='fit')

def __getattr__(name):
    module = next((m for m,names in _MODULES.items() if name in names.split()), None)
    if module is not None: return getattr(import_module(f'.{module}', __name__), name)
    if not name.startswith('_'):
        try: return import_module(f'.{name}', __name__)
        except ModuleNotFoundError as e:
            if e.name!=f'{__name__}.{name}': raise
    from difflib import get_close_matches
    near = get_close_matches(name, __all__, 1)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{f'; did you mean {near[0]}?' if near else ''}")

def __dir__(): return sorted({*globals(), *__all__})
