"""Copy the sound of one clip, as the model hears it, into this folder: `make listen CLIP=id`."""

from __future__ import annotations

import shutil
import sys

from stages.common.stage import UserError, run
from stages.speech import prepared


def listen(clip_id: str) -> str:
    """Raises: UserError if no clip has this id."""
    path = prepared.path_of(clip_id) if clip_id.isalnum() else None
    if path is None:
        raise UserError(f"no clip has the id {clip_id!r}: the ids are in {prepared.MANIFEST}")
    shutil.copyfile(path, path.name)
    return f"{path.name} is the sound of {clip_id}"


if __name__ == "__main__":
    run("listen", lambda: listen("".join(sys.argv[1:])))
