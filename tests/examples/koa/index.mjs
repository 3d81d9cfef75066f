import Koa from 'koa';
