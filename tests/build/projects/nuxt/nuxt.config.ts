export default defineNuxtConfig({ compatibilityDate: '2025-09-01' });
