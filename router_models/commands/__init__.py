"""The commands of the extra `postern[train]`: one file each. They parse, show progress and print; others reckon."""
