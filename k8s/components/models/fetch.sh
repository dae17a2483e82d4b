#!/bin/sh
# Downloads the checkpoints of a list into a directory. One that is there whole is left alone; one that was interrupted is gone
# on with; a worker never sees half of one, since it gets its name at the end. `fetch.sh models.txt /models`
set -eu
list=$1 models=$2
grep -vE '^[[:space:]]*(#|$)' "$list" >"${TMPDIR:-/tmp}/wanted" || { echo "No checkpoint is named in models.txt." >&2; exit 2; }
while read -r name repository revision more; do
  if [ -n "$more" ] || ! echo "$revision" | grep -qxE '[0-9a-f]{40}'; then
    echo "$name: write the directory, the repository and the 40 digits of a commit." >&2
    exit 2
  fi
  if [ "$(cat "$models/$name/.fetched" 2>/dev/null)" = "$repository $revision" ]; then
    echo "$name is there."
    continue
  fi
  if [ -e "$models/$name" ]; then
    echo "$name is there, of another commit. Workers may be reading it: remove it first, or take another directory." >&2
    exit 2
  fi
  hf download "$repository" --revision "$revision" --local-dir "$models/.$name-$revision" </dev/null
  rm -rf "$models/.$name-$revision/.cache"
  echo "$repository $revision" >"$models/.$name-$revision/.fetched"
  mv "$models/.$name-$revision" "$models/$name"
  echo "$name was fetched."
done <"${TMPDIR:-/tmp}/wanted"
