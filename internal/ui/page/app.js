// The page is built by the modules beside this one.
export {};
