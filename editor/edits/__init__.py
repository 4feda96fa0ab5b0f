"""From a recipe to a checkpoint: the plan of the edits, their carriers, and the baking; and the same edits as hooks."""
