"""Ground: errors, limits, canonical bytes, time, ids, killable processes, group commit. Imports none of ours."""
