project = "Example"
html_theme = "alabaster"
