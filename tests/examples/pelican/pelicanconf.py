SITENAME = "Example"
PATH = "content"
