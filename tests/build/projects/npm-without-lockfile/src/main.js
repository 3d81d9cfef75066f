import './style.css';

document.title = `Bells of ${import.meta.env.VITE_VCLONE_PROJECT}`;
