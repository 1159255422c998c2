package launch

const sysSetns = 308
