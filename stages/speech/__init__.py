"""Clips from recording to report, without torch.

| file | what is in it | add here |
|---|---|---|
| sources, pairing | which recordings and texts are in data/raw, and which belong together | |
| names | which file a name means | the usual ending of a sound format: `AUDIO_SUFFIXES` |
| tables, columns | the rows of a table, with or without a header | a tool's name for a column: `COLUMNS` |
| beside, labels, subtitles | texts and files with times beside a recording | a form: content -> parts or a text |
| clips | RawClip, Clip, Rejection, ids, manifests | |
| audio, quality | decoding, resampling, measuring | the demuxer of a sound format |
| text | cleaning, normalising, words, languages | a language without spaces: `WITHOUT_SPACES` |
| transcripts | what in a text is not said: cleaned or refused | a noise that remarks name: `NOISES` |
| comparing | what scoring takes for the same words: numbers, code points | numbers of a language: `ONE` |
| conversion, duplicates | prepare's work on each recording, and across recordings | |
| prepared, sound_cache | the sound in data/prepared: read, and made once for each recording | |
| filters | which clips are left out or worth a listen | a doubt: a reason, what to listen for |
| augment | variants of training clips | a kind of augmentation |
| alignment | lines of a text in a long recording (make align) | |
| scoring, error_analysis, caveats, report | word error rates, and what they mean | |
"""
