activate :livereload
