exports.files = {}
