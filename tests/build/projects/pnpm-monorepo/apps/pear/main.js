import { describe } from '@orchard/fruit';

document.querySelector('#name').textContent = describe('pear');
