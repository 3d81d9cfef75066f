export default { title: 'Knots', description: 'How to tie them' };
