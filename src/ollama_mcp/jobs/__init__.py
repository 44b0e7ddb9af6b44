"""Work that may outlive its call: jobs, where they are kept, their progress, and whose turn it is.

`job` has one piece of work, `store` all of them. `model_queue` bounds how many work at once for each model,
`rate_limit` how often a caller may call.
"""
