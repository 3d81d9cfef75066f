exports.build = async () => {};
