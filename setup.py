"All settings are in settings.ini; edit there, not here."
import shlex, shutil
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lib,extra = cfg['lib_path'],'_requirements'

class WithData(build_py):
    "What `spd_nb.load` opens by name goes into the package; a checkout has it beside the package"
    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False): return
        for kind in ('story','toys'): shutil.copytree(here/'data'/kind, Path(self.build_lib)/lib/'data'/kind, dirs_exist_ok=True, ignore=shutil.ignore_patterns('*.md'))  # noqa: E501

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], license=cfg['license'].upper(), keywords=cfg['keywords'], url=cfg['git_url'],  # noqa: E501
    packages=find_packages(include=[lib, f'{lib}.*']),
    cmdclass=dict(build_py=WithData),
    package_data={lib: shlex.split(cfg['package_data'])},
    python_requires='>=' + cfg['min_python'],
    install_requires=shlex.split(cfg['requirements']),
    extras_require={k.removesuffix(extra): shlex.split(v) for k,v in cfg.items() if k.endswith(extra)},
    entry_points={'console_scripts': shlex.split(cfg['console_scripts']), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False,
)
