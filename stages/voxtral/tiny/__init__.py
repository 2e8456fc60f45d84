"""Makes what data/demo holds: the tiny model (speech, pretrain) and the demo's clips (demo_voice).

Needed only to make them again. Importing `speech` and `demo_voice` needs no torch; speaking needs espeak-ng and flite.
"""
