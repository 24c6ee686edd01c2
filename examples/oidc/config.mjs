// Where people sign in, and where the proxy is: those of `make run`. `baseURL` ends in /{server}/v1.
export const issuer = "http://127.0.0.1:8091";
export const clientId = "playground";
export const baseURL = "http://127.0.0.1:8080/demo/v1";
export const model = "demo";
