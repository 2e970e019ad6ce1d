// `hubward connect` as the server of an SDK's stdio client.
// Environment: HUBWARD the program; EXT_CONNECT a JSON object from server to the arguments of connect, URL included.
const urls = JSON.parse(process.env.EXT_CONNECT ?? '{}');
export const overStdio = (server) => ({
  command: process.env.HUBWARD, args: ['connect', ...urls[server]], env: { ...process.env }, stderr: 'inherit',
});
