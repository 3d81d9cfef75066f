module.exports = (grunt) => grunt.registerTask('build', []);
